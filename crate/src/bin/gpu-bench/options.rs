//! The command line.

use std::path::PathBuf;

const USAGE: &str = "usage: gpu-bench [--adapter <part of its name>] [--software] [--quick] [--only <part of a case>] \
                     [--json <file>]";

/// What is asked for.
#[derive(Default, Debug)]
pub struct Options {
    /// Only adapters with this in their name.
    pub adapter: Option<String>,
    /// Also adapters that are the processor in disguise.
    pub software: bool,
    /// Fewer sizes, shorter measurements.
    pub quick: bool,
    /// Only cases with this in their name.
    pub only: Option<String>,
    /// Where the results go besides the terminal.
    pub json: Option<PathBuf>,
}

impl Options {
    /// Reads the words of a command line; the text for the user if they make no sense.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
            match word.as_str() {
                "--adapter" => options.adapter = Some(value()?),
                "--only" => options.only = Some(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--software" => options.software = true,
                "--quick" => options.quick = true,
                "--help" => return Err(USAGE.to_owned()),
                _ => return Err(format!("unknown argument {word}\n{USAGE}")),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_become_options() {
        let options = parse("--adapter h200 --software --json a.json").unwrap();
        assert_eq!((options.adapter.as_deref(), options.software, options.quick), (Some("h200"), true, false));
        assert_eq!(options.json, Some("a.json".into()));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        assert!(parse("--adapter").unwrap_err().starts_with("--adapter needs a value"));
        assert!(parse("--fast").unwrap_err().starts_with("unknown argument --fast"));
    }
}
