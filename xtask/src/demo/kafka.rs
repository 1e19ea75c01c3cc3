//! A real Apache Kafka for the demo: one node, KRaft.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::processes::{Processes, free_ports};
use crate::progress::run_quietly;
use crate::root;

/// Any 16 bytes in base64url; a fresh folder makes a fresh cluster anyway.
const CLUSTER_ID: &str = "dHJhY2t3YXktZGVtby0wMQ";

/// Starts a broker; returns its address.
pub fn start(processes: &mut Processes) -> Result<String> {
    let folder = processes.folder().join("kafka");
    fs::create_dir_all(&folder)?;
    let [port, quorum] = free_ports()?;
    let properties = folder.join("server.properties");
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{quorum}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{quorum}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\ngroup.initial.rebalance.delay.ms=0\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\n",
            folder.join("data").display()
        ),
    )?;
    fs::write(
        folder.join("log4j2.properties"),
        "rootLogger.level=WARN\nrootLogger.appenderRef.out.ref=OUT\nappender.out.type=Console\nappender.out.name=OUT\n\
         appender.out.layout.type=PatternLayout\nappender.out.layout.pattern=%d %p %c{1}: %m%n\n",
    )?;
    run_quietly(
        "formatting Kafka's storage",
        java(&folder).args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(&properties),
        "Install Java 17 or later",
    )?;
    processes.start("kafka", java(&folder).arg("kafka.Kafka").arg(&properties))?;
    processes
        .wait_until("Kafka to listen", 60, || TcpStream::connect(("127.0.0.1", port)).is_ok())
        .context("Kafka does not start")?;
    Ok(format!("127.0.0.1:{port}"))
}

fn java(folder: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display()))
        .arg("-cp")
        .arg(root().join(".trackway/kafka/libs/*"));
    java
}
