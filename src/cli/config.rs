//! The meaning of what was typed.

use crate::cli::values::{read_size, usage};
use std::path::PathBuf;

use regex::Regex;

use crate::adapters::expert_options::{ExpertLayout, Orientation, Packing};
use crate::cancel::Cancel;
use crate::checkpoint::tokenizer::TokenizerChoice;
use crate::error::Result;
use crate::error::request::RequestError;
use crate::hub::cache::Hub;
use crate::hub::environment::HubEnvironment;
use crate::merge::request::Request;
use crate::model::tied::Tied;
use crate::report::style::Style;
use crate::schedule::budget::WORKERS_MOST;
use crate::storage::io::settings::IoMode;
use crate::storage::location::Location;

use crate::cli::args::MergeArgs;

/// A merge as the flags ask for it.
pub(crate) struct MergeConfig {
    /// What to do.
    pub(crate) request: Request,
    /// Where to.
    pub(crate) output: Option<PathBuf>,
    /// Whether to stop after the plan.
    pub(crate) dry_run: bool,
    /// Whether to measure how fast it will be.
    pub(crate) probe: bool,
    /// Where to show what the time went to.
    pub(crate) profile: Option<PathBuf>,
    /// What to show.
    pub(crate) style: Style,
}

impl MergeConfig {
    /// Reads the flags' values.
    ///
    /// # Errors
    /// [`RequestError::Usage`] with the flag, the value and what is accepted; [`RequestError::OutOfRange`].
    pub(crate) fn new(args: &MergeArgs) -> Result<MergeConfig> {
        if args.adapters.is_empty() {
            return Err(RequestError::Required { flag: "--adapter <DIR|NAME>" }.into());
        }
        let adapters = args
            .adapters
            .iter()
            .map(|(path, weight)| Ok((path.clone().into(), read_weight(weight.as_deref())?)));
        let request = Request {
            base: args.base.clone().map(Into::into),
            variant: args.variant.clone(),
            adapters: adapters.collect::<Result<_>>()?,
            hub: Hub::new(&HubEnvironment::of_this_process()),
            max_ram: args.max_ram.as_deref().map(|text| read_size("--max-ram", text)).transpose()?,
            io: IoMode::find(&args.io),
            copy_unchanged: args.unchanged == "copy",
            threads: args.threads.as_deref().map(read_threads).transpose()?,
            ignored_fields: args.ignore_field.clone(),
            tokenizer: match args.tokenizer.as_str() {
                "base" => TokenizerChoice::Base,
                "adapter" => TokenizerChoice::Adapter,
                _ => TokenizerChoice::Auto,
            },
            tied: if args.tied == "fold" { Tied::Fold } else { Tied::Untie },
            keep_quantized: args.keep_quantized,
            experts: ExpertLayout {
                packing: args.expert_packing.as_deref().map(|order| match order {
                    "rank-major" | "rank_major" => Packing::RankMajor,
                    _ => Packing::GroupedByExpert,
                }),
                orientation: args.expert_lora_a_axis.as_deref().map(|axis| match axis {
                    "d2" => Orientation::Swapped,
                    _ => Orientation::Straight,
                }),
            },
            allow_unmatched: read_patterns("--allow-unmatched", &args.allow_unmatched)?,
            allow_missing: read_patterns("--allow-missing", &args.allow_missing)?,
            allow_unmerged_files: args.allow_unmerged_file.clone(),
            allow_other_base: args.allow_other_base,
            follow_links: args.follow_links,
            allow_noop: args.allow_noop,
            trust_journal: args.trust_journal,
            state: state_dir(),
            cancel: Cancel::default(),
            #[cfg(feature = "testing")]
            hooks: args.testing.hooks()?,
        };
        let output = args.output.clone();
        let (profile, style) = (args.profile.clone(), args.style());
        Ok(MergeConfig { request, output, dry_run: args.dry_run, probe: false, profile, style })
    }
}

fn read_weight(text: Option<&str>) -> Result<f64> {
    let Some(text) = text else { return Ok(1.0) };
    let weight = text.parse::<f64>().ok().filter(|weight| weight.is_finite());
    weight
        .ok_or_else(|| usage("--scaled-adapter DIR", text, "a finite number is accepted, such as 0.5 or -1"))
}

/// No name of a tensor or of a module: what matches it matches everything.
const NO_NAME: &str = "~~~";

/// The expressions of a flag, none of which may match everything.
fn read_patterns(flag: &'static str, texts: &[String]) -> Result<Vec<Regex>> {
    let read = |text: &String| {
        let refused = |accepted: &'static str| usage(flag, text, accepted);
        let pattern = Regex::new(text)
            .map_err(|cause| refused("a regular expression is accepted, such as `mtp\\.`").because(cause))?;
        if pattern.is_match("") || pattern.is_match(NO_NAME) {
            return Err(refused("it matches every key; name those that may be skipped"));
        }
        Ok(pattern)
    };
    texts.iter().map(read).collect()
}

fn read_threads(text: &str) -> Result<usize> {
    let threads = text.parse::<usize>().ok().filter(|threads| (1..=WORKERS_MOST).contains(threads));
    threads.ok_or_else(|| {
        let value = text.to_owned();
        RequestError::OutOfRange { flag: "--threads", value, most: WORKERS_MOST }.into()
    })
}

/// Where this user's programs keep their state: `XDG_STATE_HOME`, else `.local/state` in `HOME`.
fn state_dir() -> Option<Location> {
    let get = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = get("XDG_STATE_HOME").or_else(|| Some(get("HOME")?.join(".local/state")))?;
    Some(Location::of_path(state).join("shardfold"))
}
