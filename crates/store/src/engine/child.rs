//! What the child process does: becomes the ClickHouse server that libchdb holds.

use std::ffi::{CString, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::process::exit;

/// Exit code for "this process could not even become the server" (`EX_CONFIG` of sysexits).
const EXIT_CONFIG: i32 = 78;

/// `void chdb_set_signal_handlers_enabled(int)`; the header is not in the package.
type SetSignalHandlersEnabled = unsafe extern "C" fn(c_int);

/// `chdb_result *chdb_query_cmdline(int argc, char **argv)`. Returns a result even after an error, and the result says
/// nothing of it: what went wrong stands only on stderr. The launcher reads it there.
type QueryCommandLine = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;

/// Becomes the ClickHouse server and ends the process with it.
///
/// To be called by the program that [`super::EngineConfig::exe`] names, as its first act (before any thread or runtime
/// is started), when its arguments begin with [`super::EngineConfig::exe_args`]. Standard input must be a pipe whose
/// other end the launcher holds: its end (closed, or the launcher is dead) ends the server.
///
/// - `args`: what follows `exe_args`; written by [`super::Engine::start`]: path of `libchdb.so`, then the engine's own
///   command line.
pub fn child_main(args: impl IntoIterator<Item = OsString>) -> ! {
    match run(args.into_iter()) {
        Ok(never) => match never {},
        Err(message) => {
            // stderr is the engine's log; there is no tracing in this process.
            eprintln!("{message}");
            exit(EXIT_CONFIG)
        }
    }
}

fn run(mut args: impl Iterator<Item = OsString>) -> Result<std::convert::Infallible, String> {
    let library = args.next().ok_or("the embedded ClickHouse is started by trackway itself, not by hand")?;
    let mut argv = vec![c"clickhouse".to_owned()];
    for arg in args {
        let arg =
            CString::new(arg.into_vec()).map_err(|_| "an argument of the embedded ClickHouse holds a zero byte")?;
        argv.push(arg);
    }
    let mut argv: Vec<*mut c_char> = argv.into_iter().map(CString::into_raw).collect();
    let argc = c_int::try_from(argv.len()).map_err(|_| "too many arguments")?;
    argv.push(std::ptr::null_mut());

    // SAFETY: loading runs the library's initialisers; it is the one that the operator configured, and nothing else of
    // this process runs yet.
    let library = unsafe { libloading::Library::new(&library) }
        .map_err(|error| format!("cannot load `{}`: {error}", library.to_string_lossy()))?;
    // SAFETY: both prototypes are those of chdb.h of release 26.7.3, which the package is pinned to.
    let (set_signal_handlers, query_command_line) = unsafe {
        let set = library.get::<SetSignalHandlersEnabled>(b"chdb_set_signal_handlers_enabled\0");
        let run = library.get::<QueryCommandLine>(b"chdb_query_cmdline\0");
        match (set, run) {
            (Ok(set), Ok(run)) => (*set, *run),
            (Err(error), _) | (_, Err(error)) => return Err(format!("this is not libchdb 26.7: {error}")),
        }
    };
    // SAFETY: takes a number and returns nothing. Without it the library would take over SIGSEGV, SIGTERM and others.
    unsafe { set_signal_handlers(0) };
    // SAFETY: `argv` holds `argc` pointers to writable, zero-terminated strings that are never freed, and a null at its
    // end, as `main` would get them; the library stays loaded until the process ends.
    unsafe { query_command_line(argc, argv.as_mut_ptr()) };
    // `exit` and not a return: the library's static objects live on threads that only the end of the process ends.
    exit(0)
}
