//! The smallest program that can become the embedded ClickHouse: tests start it where the product starts itself.

fn main() {
    trackway_store::engine::child_main(std::env::args_os().skip(1))
}
