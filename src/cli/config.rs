//! The meaning of what was typed.

use crate::cli::values::{read_size, usage};
use std::path::PathBuf;

use regex::Regex;

use crate::adapters::adapter_weight::AdapterWeight;
use crate::adapters::expert_options::{ExpertLayout, Orientation, Packing};
#[cfg(feature = "hub")]
use crate::checkpoint::fetched::are_fetched;
use crate::checkpoint::tokenizer::TokenizerChoice;
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::hub::cache::Hub;
use crate::hub::environment::HubEnvironment;
use crate::merge::request::Request;
use crate::model::tied::Tied;
use crate::report::style::Style;
use crate::schedule::budget::WORKERS_MOST;
use crate::storage::io::settings::IoMode;
use crate::storage::location::Location;
use crate::tensor::size::Size;

use crate::cli::args::MergeArgs;
use crate::cli::combine::combination;
use crate::cli::flags::{FormFlags, InputFlags, MemoryFlags, OutputFlags, ResultFlags, SourceFlags};
use crate::cli::part::read_part;
use crate::cli::rule_flags::{AdapterFlags, RuleFlags};
#[cfg(feature = "testing")]
use crate::cli::test_flags::TestFlags;

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
    /// Where to tell of the merge for a browser.
    pub(crate) report: Option<PathBuf>,
    /// What to show.
    pub(crate) style: Style,
    /// What only tests ask for.
    #[cfg(feature = "testing")]
    pub(crate) testing: TestFlags,
}

impl MergeConfig {
    /// Reads the flags' values.
    ///
    /// # Errors
    /// [`RequestError::Usage`] with the flag, the value and what is accepted; [`RequestError::OutOfRange`].
    pub(crate) fn new(args: &MergeArgs) -> Result<MergeConfig> {
        if args.inputs.adapters.is_empty() {
            let error = Error::new(RequestError::Required { flag: "--adapter <DIR|NAME>" });
            return Err(error.hint("without one `shardfold convert` changes types and shards"));
        }
        let request = request_of(&args.inputs, &args.result, &args.memory, &args.rules)?;
        #[cfg(feature = "testing")]
        let request = Request { hooks: args.testing.hooks()?, ..request };
        let written = MergeConfig::written(&args.out, request, args.style())?;
        #[cfg(feature = "testing")]
        let written = MergeConfig { testing: args.testing.clone(), ..written };
        Ok(MergeConfig { profile: args.profile.clone(), report: args.report.clone(), ..written })
    }

    /// Whether to throw the result away; without the feature `testing`, never.
    pub(crate) fn discards(&self) -> bool {
        #[cfg(feature = "testing")]
        return self.testing.discard;
        #[cfg(not(feature = "testing"))]
        false
    }

    /// What is asked for, written as these flags have it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn written(out: &OutputFlags, request: Request, style: Style) -> Result<MergeConfig> {
        let part = out.part.as_deref().map(|text| read_part(text, &|name| std::env::var(name).ok()));
        let request = Request {
            keep_undo: out.keep_undo,
            unchanged: out.unchanged,
            sha256: out.checksums.is_some(),
            expected: out.expect.as_deref().map(|text| read_digest("--expect", text)).transpose()?,
            trust_journal: out.trust_journal,
            part: part.transpose()?,
            ..request
        };
        let (output, dry_run) = (out.output.clone(), out.dry_run);
        Ok(MergeConfig {
            request,
            output,
            dry_run,
            probe: false,
            profile: None,
            report: None,
            style,
            #[cfg(feature = "testing")]
            testing: TestFlags::default(),
        })
    }
}

/// What is asked for by the flags that `merge`, `plan` and `verify` share.
///
/// # Errors
/// [`RequestError::Usage`] with the flag, the value and what is accepted; [`RequestError::OutOfRange`].
pub(crate) fn request_of(
    inputs: &InputFlags,
    result: &ResultFlags,
    memory: &MemoryFlags,
    rules: &RuleFlags,
) -> Result<Request> {
    let adapters = inputs
        .adapters
        .iter()
        .map(|(path, weight)| Ok((path.clone().into(), read_weight(weight.as_deref())?)));
    let request = Request {
        base: inputs.base.clone().map(Into::into),
        adapters: adapters.collect::<Result<_>>()?,
        combination: combination(&inputs.combine)?,
        tokenizer: match result.tokenizer.as_str() {
            "base" => TokenizerChoice::Base,
            "adapter" => TokenizerChoice::Adapter,
            _ => TokenizerChoice::Auto,
        },
        tied: if result.tied == "fold" { Tied::Fold } else { Tied::Untie },
        changed_only: result.changed_only,
        keep_quantized: rules.keep_quantized,
        base16: rules.base16.clone().map(Into::into),
        template: rules.gguf_template.clone().map(Into::into),
        template_type: rules.gguf_type.clone(),
        fresh_scales: rules.scales == "fresh",
        accept_loss: rules.accept_loss,
        base_as: rules.base_as.clone(),
        ..Request::default()
    };
    form_of(&result.form, memory, source_of(&inputs.source, reading_of(&rules.adapters, request)?)?)
}

/// A request with what flags say of how adapters are read.
///
/// # Errors
/// As [`request_of`].
pub(crate) fn reading_of(adapters: &AdapterFlags, request: Request) -> Result<Request> {
    Ok(Request {
        ignored_fields: adapters.ignore_field.clone(),
        experts: expert_layout(adapters),
        allow_unmatched: read_patterns("--allow-unmatched", &adapters.allow_unmatched)?,
        allow_missing: read_patterns("--allow-missing", &adapters.allow_missing)?,
        allow_unmerged_files: adapters.allow_unmerged_file.clone(),
        allow_other_base: adapters.allow_other_base,
        follow_links: adapters.follow_links,
        allow_noop: adapters.allow_noop,
        ..request
    })
}

/// A request with what flags say of where the base is read from.
///
/// # Errors
/// As [`request_of`].
pub(crate) fn source_of(source: &SourceFlags, request: Request) -> Result<Request> {
    Ok(Request { variant: source.variant.clone(), hub: hub_of(source)?, ..request })
}

/// A request with what flags say of the form of its result and of the memory for it.
///
/// # Errors
/// As [`request_of`].
pub(crate) fn form_of(form: &FormFlags, memory: &MemoryFlags, request: Request) -> Result<Request> {
    Ok(Request {
        dtype: form.dtype.clone(),
        max_shard_size: form.max_shard_size.as_deref().map(read_shard_size).transpose()?,
        ..memory_of(memory, request)?
    })
}

/// A request with what flags say of memory and threads.
///
/// # Errors
/// As [`request_of`].
pub(crate) fn memory_of(memory: &MemoryFlags, request: Request) -> Result<Request> {
    Ok(Request {
        max_ram: memory.max_ram.as_deref().map(|text| read_size("--max-ram", text)).transpose()?,
        io: IoMode::find(&memory.io),
        threads: memory.threads.as_deref().map(read_threads).transpose()?,
        state: state_dir(),
        ..request
    })
}

/// The cache of this process, and the hub behind it.
pub(crate) fn hub_of_this_process() -> Hub {
    Hub::online(&HubEnvironment::of_this_process())
}

/// Where names are looked up.
///
/// # Errors
/// [`RequestError::Usage`] for `--cache` where nothing is read of the hub.
fn hub_of(source: &SourceFlags) -> Result<Hub> {
    let hub = hub_of_this_process();
    if !source.cache {
        return Ok(hub);
    }
    #[cfg(feature = "hub")]
    return Ok(hub.keeping(are_fetched));
    #[cfg(not(feature = "hub"))]
    Err(usage("--cache", "", "a build with the feature `hub` fetches; this one reads the cache alone"))
}

fn expert_layout(rules: &AdapterFlags) -> ExpertLayout {
    ExpertLayout {
        packing: rules.expert_packing.as_deref().map(|order| match order {
            "rank-major" | "rank_major" => Packing::RankMajor,
            _ => Packing::GroupedByExpert,
        }),
        orientation: rules.expert_lora_a_axis.as_deref().map(|axis| match axis {
            "d2" => Orientation::Swapped,
            _ => Orientation::Straight,
        }),
    }
}

/// Digits of a digest.
const DIGITS: usize = 64;

fn read_digest(flag: &'static str, text: &str) -> Result<String> {
    let is_digest = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digest {
        return Err(usage(flag, text, "64 hexadecimal digits are accepted, as `shardfold.json` has them"));
    }
    Ok(text.to_ascii_lowercase())
}

fn read_weight(text: Option<&str>) -> Result<AdapterWeight> {
    let Some(text) = text else { return Ok(AdapterWeight::default()) };
    AdapterWeight::typed(text).map_err(|accepted| usage("--scaled-adapter DIR", text, accepted))
}

/// No name of a tensor or of a module: what matches it matches everything.
const NO_NAME: &str = "~~~";

/// The expressions of a flag, none of which may match everything.
///
/// # Errors
/// [`RequestError::Usage`].
pub(crate) fn read_patterns(flag: &'static str, texts: &[String]) -> Result<Vec<Regex>> {
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

fn read_shard_size(text: &str) -> Result<Size> {
    read_size("--max-shard-size", text)
}

fn read_threads(text: &str) -> Result<usize> {
    read_count("--threads", text, WORKERS_MOST)
}

/// A whole number from 1 to `most`.
///
/// # Errors
/// [`RequestError::OutOfRange`].
pub(crate) fn read_count(flag: &'static str, text: &str, most: usize) -> Result<usize> {
    let count = text.parse::<usize>().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| RequestError::OutOfRange { flag, value: text.to_owned(), most }.into())
}

/// Where this user's programs keep their state: `XDG_STATE_HOME`, else `.local/state` in `HOME`.
fn state_dir() -> Option<Location> {
    let get = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = get("XDG_STATE_HOME").or_else(|| Some(get("HOME")?.join(".local/state")))?;
    Some(Location::of_path(state).join("shardfold"))
}
