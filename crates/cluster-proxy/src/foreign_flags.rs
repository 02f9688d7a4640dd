//! Flags of the Go programs that have no meaning here, and whose absence nobody can notice: command
//! lines and charts written for those programs must start these. They are taken and do nothing, and
//! their help says so; a value that the Go program would refuse is refused.

use std::fmt::Debug;
use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::GoDuration;

/// One such flag.
#[derive(Debug)]
pub(crate) struct ForeignFlag {
    /// Its name, without dashes.
    name: &'static str,
    /// What its values look like.
    kind: Kind,
    /// What it means where it has a meaning.
    help: &'static str,
}

/// What the values of a flag look like: a wrong one is wrong here too.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// `true` or `false`, and `true` where there is none.
    Bool,
    /// A number, which may have a fraction.
    Number,
    /// As Go writes it.
    Duration,
    /// Anything.
    Text,
}

/// A flag that is taken and does nothing.
pub(crate) const fn ignored(name: &'static str, kind: Kind, help: &'static str) -> ForeignFlag {
    ForeignFlag { name, kind, help }
}

/// The foreign flags of one role.
pub(crate) trait Table: Debug + Clone + Send + Sync + 'static {
    /// Over them in `--help`.
    const HEADING: &'static str;
    /// All of them.
    const FLAGS: &'static [ForeignFlag];
}

/// The foreign flags that a command line gives.
#[derive(Debug, Clone)]
pub(crate) struct ForeignFlags<T: Table> {
    given: Vec<(&'static ForeignFlag, Vec<String>)>,
    table: PhantomData<T>,
}

impl<T: Table> ForeignFlags<T> {
    /// Refuses wrong values, and says what is ignored. Call it when logs are set up.
    ///
    /// # Errors
    /// A usage error that names the flag.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        for (flag, values) in &self.given {
            for value in values {
                flag.check(value)?;
            }
        }
        let names: Vec<_> = self.given.iter().map(|(flag, _)| flag.name).collect();
        if !names.is_empty() {
            tracing::debug!(flags = names.join(","), "flags without effect here");
        }
        Ok(())
    }
}

impl ForeignFlag {
    fn check(&self, value: &str) -> Result<(), StartError> {
        let wrong = match self.kind {
            Kind::Bool => go_bool(value).err(),
            Kind::Number => {
                let number = value.parse::<f64>();
                number.err().map(|_| format!("{value:?} is not a number"))
            }
            Kind::Duration => {
                let duration = value.parse::<GoDuration>();
                duration.err().map(|error| format!("{value:?} is {error}"))
            }
            Kind::Text => None,
        };
        match wrong {
            Some(cause) => Err(self.usage(cause)),
            None => Ok(()),
        }
    }

    fn usage(&self, cause: String) -> StartError {
        StartError::usage(format_args!("--{}", self.name), cause)
    }

    fn arg(&self, heading: &'static str) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .help(format!("{} (accepted, without effect here)", self.help))
            .help_heading(heading)
            .hide_short_help(true)
            .allow_hyphen_values(true)
            .action(ArgAction::Append);
        match self.kind {
            Kind::Bool => arg
                .value_name("BOOL")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            Kind::Number => arg.value_name("N"),
            Kind::Duration => arg.value_name("DURATION"),
            Kind::Text => arg.value_name("VALUE"),
        }
    }
}

impl<T: Table> Args for ForeignFlags<T> {
    fn augment_args(command: Command) -> Command {
        command.args(T::FLAGS.iter().map(|flag| flag.arg(T::HEADING)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Table> FromArgMatches for ForeignFlags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = T::FLAGS.iter().filter_map(|flag| {
            let values = matches.get_many::<String>(flag.name)?;
            Some((flag, values.cloned().collect()))
        });
        Ok(Self {
            given: given.collect(),
            table: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
///
/// # Errors
/// In words, for clap and for usage errors.
pub(crate) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone)]
    struct Some;

    impl Table for Some {
        const HEADING: &'static str = "Some";
        const FLAGS: &'static [ForeignFlag] = &[
            ignored("keepalive-time", Kind::Duration, "How often"),
            ignored("profiling", Kind::Bool, "Profiles"),
            ignored("qps", Kind::Number, "Per second"),
            ignored("note", Kind::Text, "Notes"),
        ];
    }

    fn check(line: &[&str]) -> Result<(), String> {
        let command = ForeignFlags::<Some>::augment_args(Command::new("x"));
        let line = ["x"].iter().chain(line);
        let matches = command
            .try_get_matches_from(line)
            .map_err(|error| error.to_string())?;
        let flags = ForeignFlags::<Some>::from_arg_matches(&matches).unwrap();
        flags.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_missed_is_ignored() {
        check(&[]).unwrap();
        check(&["--keepalive-time=1h0m0s", "--keepalive-time", "30s"]).unwrap();
        check(&["--profiling", "--profiling=false", "--qps=0.5", "--qps=-1"]).unwrap();
        check(&["--note=anything", "--note=", "--profiling=F"]).unwrap();
    }

    #[test]
    fn what_is_wrong_is_refused() {
        check(&["--qps=many", "--qps=1"]).unwrap_err();
        for (line, said) in [
            (
                "--profiling=yes",
                "--profiling: \"yes\" is neither true nor false",
            ),
            ("--qps=many", "--qps: \"many\" is not a number"),
            (
                "--keepalive-time=30",
                "--keepalive-time: \"30\" is not a duration such as 30s, 1m30s or 200ms",
            ),
        ] {
            assert_eq!(check(&[line]).unwrap_err(), said);
        }
    }

    #[test]
    fn help_tells_which_is_which() {
        let mut command = ForeignFlags::<Some>::augment_args(Command::new("x"));
        let help = command.render_long_help().to_string();
        let part = "How often (accepted, without effect here)";
        assert!(help.contains(part), "{help}");
        let short = command.render_help().to_string();
        assert!(!short.contains("keepalive-time"), "{short}");
    }
}
