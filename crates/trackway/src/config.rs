//! Configuration: the only reader of files and of the environment, the only home of defaults.
//!
//! A setting comes from, the later the stronger: its default ([`settings`]), one TOML file, an environment variable
//! `TRACKWAY_SECTION__FIELD`. Whatever is unknown or out of range stops the start and names itself: where it was
//! written, its key, its value, what is allowed. The other crates have `Config` structs without defaults; [`crate::parts`]
//! fills them from here.

mod check;
mod describe;
pub mod settings;
mod write_key;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use check::check;
pub use describe::describe;
pub use settings::Settings;

/// What the file is called that is read without being asked for.
const FILE_NAME: &str = "trackway.toml";

/// Before the names of all environment variables that are settings.
const PREFIX: &str = "TRACKWAY_";

/// Where settings were written, so that a message can point there.
#[derive(Debug, Default)]
struct Sources {
    /// The file, if there is one.
    file: Option<PathBuf>,
    /// Keys that the environment sets, with the variable's name.
    variables: BTreeMap<String, String>,
}

impl Sources {
    /// Where the value of `key` was written.
    fn of(&self, key: &str) -> String {
        if let Some(variable) = self.variables.get(key) {
            return format!("environment variable `{variable}`");
        }
        match &self.file {
            Some(file) => format!("file `{}`", file.display()),
            None => "default settings".to_owned(),
        }
    }
}

/// Why the program does not start.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be; the message shows the line.
    Syntax {
        /// The file.
        file: PathBuf,
        /// The parser's words, with line and column.
        message: String,
    },
    /// An environment variable that is no setting, or has a value of the wrong kind.
    Variable {
        /// Its name.
        variable: String,
        /// The key that it stands for.
        key: String,
        /// Its value; empty for a secret.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A value that is not allowed.
    Value {
        /// Where it was written.
        place: String,
        /// Its key.
        key: String,
        /// The value.
        value: String,
        /// What is allowed, as words that follow "must be".
        allowed: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, source } => write!(f, "cannot read file `{}`: {source}", file.display()),
            Self::Syntax { file, message } => write!(f, "file `{}`: {}", file.display(), message.trim_end()),
            Self::Variable { variable, key, value, problem } => write!(
                f,
                "environment variable `{variable}` (setting `{key}`) is `{value}`: {problem}. \
                 `trackway config` prints every setting"
            ),
            Self::Value { place, key, value, allowed } => {
                write!(f, "{place}: setting `{key}` is `{value}`, must be {allowed}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The file that settings are read from, if there is one: `given`, else [`FILE_NAME`] in the working folder.
#[must_use]
pub fn file(given: Option<&Path>) -> Option<PathBuf> {
    given.map(Path::to_owned).or_else(|| Some(PathBuf::from(FILE_NAME)).filter(|file| file.is_file()))
}

/// Reads the settings: `file` if given, else [`FILE_NAME`] in the working folder if it is there; then the environment.
///
/// # Errors
/// [`ConfigError`]: the first thing that is wrong.
pub fn load(file: Option<&Path>) -> Result<Settings, ConfigError> {
    let text = match self::file(file) {
        Some(file) => {
            let text = std::fs::read_to_string(&file);
            Some((file.clone(), text.map_err(|source| ConfigError::File { file, source })?))
        }
        None => None,
    };
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    read(text, variables.collect())
}

/// [`load`] without the outside world: the file's name and text, and the environment's variables that are ours.
fn read(file: Option<(PathBuf, String)>, variables: BTreeMap<String, String>) -> Result<Settings, ConfigError> {
    let mut sources = Sources::default();
    let mut settings = Settings::default();
    let mut table = Table::new();
    if let Some((name, text)) = file {
        let syntax = |e: toml::de::Error| ConfigError::Syntax { file: name.clone(), message: e.to_string() };
        // Read straight into the settings first: only so do messages point into the file.
        settings = toml::from_str(&text).map_err(syntax)?;
        table = toml::from_str(&text).map_err(syntax)?;
        sources.file = Some(name);
    }
    for (variable, text) in variables {
        let key = variable[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        // One at a time, so that an error is this variable's. Text that happens to look like a number may be meant as
        // text (a password), so both readings are tried.
        let mut problem = String::new();
        let read = readings(&text).into_iter().find_map(|value| {
            let mut with = table.clone();
            if !set(&mut with, &key, value) {
                problem = "no such setting".to_owned();
                return None;
            }
            match Settings::try_from_table(&with) {
                Ok(settings) => Some((with, settings)),
                Err(e) => {
                    problem = e.message().to_owned();
                    None
                }
            }
        });
        let Some((with, read)) = read else {
            let value = if key.contains("password") || key.contains("secret") { String::new() } else { text };
            return Err(ConfigError::Variable { variable, key, value, problem });
        };
        (table, settings) = (with, read);
        sources.variables.insert(key, variable);
    }
    check(&settings, &sources)?;
    Ok(settings)
}

/// What the text of a variable may mean: a TOML value if it reads as one, else the text itself.
fn readings(text: &str) -> Vec<Value> {
    let as_value = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut t| {
        // A line feed in the text could smuggle in further keys; such text is only text.
        (t.len() == 1).then(|| t.remove("value")).flatten()
    });
    as_value.into_iter().chain([Value::String(text.to_owned())]).collect()
}

/// Puts `value` at a dotted key. False if something on the way is not a table.
fn set(table: &mut Table, key: &str, value: Value) -> bool {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            true
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            inner.as_table_mut().is_some_and(|inner| set(inner, rest, value))
        }
    }
}

#[cfg(test)]
mod tests;
