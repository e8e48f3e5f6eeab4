//! A page about one merge for a browser: what was merged into what, what became of every module's delta, what was decided, and
//! what the time went to. One file that needs no other, no network and no script.

pub(crate) mod changes;
pub(crate) mod heat;
pub(crate) mod html;
pub(crate) mod layers;
pub(crate) mod sections;
pub(crate) mod timeline;

use crate::adapters::adapter_weight::AdapterWeight;
use crate::pipeline::clock::ThreadTime;
use crate::pipeline::tally::Applied;

use crate::report::page::html::Html;
use crate::report::page::sections::{facts, files, remarks};

/// The look of the page, light and dark.
const STYLE: &str = include_str!("style.css");

/// What is told of a merge.
#[derive(Debug, Default)]
pub(crate) struct Page<'p> {
    /// The directory, as it is shown.
    pub(crate) output: String,
    /// Pairs of a name and a value: base, version, digests, sizes, memory.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// The adapters with their weights.
    pub(crate) adapters: Vec<(String, AdapterWeight)>,
    /// What was decided beyond adding deltas.
    pub(crate) decisions: Vec<String>,
    /// Notes and warnings.
    pub(crate) notes: Vec<String>,
    /// What was measured of the deltas; none where nothing was run.
    pub(crate) applied: Option<&'p Applied>,
    /// What the threads did; none where nothing was run.
    pub(crate) threads: &'p [ThreadTime],
    /// Files of the result: name, bytes, hash.
    pub(crate) files: Vec<(String, u64, String)>,
    /// What to do for what the page lacks.
    pub(crate) hint: Option<String>,
}

impl Page<'_> {
    /// The page as HTML.
    pub(crate) fn html(&self) -> String {
        let mut html = Html::default();
        html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        html.element("title", &format!("{}: merge report", self.output));
        html.raw("<style>\n").raw(STYLE).raw("</style>\n</head>\n<body>\n<main>\n");
        html.element("h1", "Merge report");
        facts(&mut html, &self.output, &self.adapters, &self.facts);
        remarks(&mut html, "Decisions", &self.decisions);
        remarks(&mut html, "Notes", &self.notes);
        match self.applied {
            Some(applied) => {
                heat::maps(&mut html, applied);
                changes::tables(&mut html, applied);
            }
            None => self.hint.iter().for_each(|hint| {
                html.element("p", hint);
            }),
        }
        timeline::show(&mut html, self.threads);
        files(&mut html, &self.files);
        html.raw("</main>\n</body>\n</html>\n");
        html.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::clock::{Activity, Clocks};
    use crate::pipeline::tally::{AdapterRetention, ModuleRetention};

    fn module(module: &str, norm: f64, retained: f64) -> ModuleRetention {
        ModuleRetention {
            adapter: 0,
            module: module.to_owned(),
            tensor: format!("{module}.weight"),
            norm,
            weight_norm: 10.0,
            retained: Some(retained),
            unchanged: Some(0.25),
        }
    }

    fn applied() -> Applied {
        let adapter = AdapterRetention {
            adapter: "style".to_owned(),
            norm: 1.0,
            retained: Some(0.9),
            unchanged: Some(0.1),
            measured: 0.5,
            lost: 1,
        };
        let modules = (0..3).flat_map(|layer| {
            let path = |kind: &str| format!("model.layers.{layer}.{kind}");
            [
                module(&path("self_attn.q_proj"), 0.1 * f64::from(layer + 1), 0.99),
                module(&path("mlp.experts.0.up_proj"), 0.3, 0.5),
                module(&path("mlp.experts.1.up_proj"), 0.4, 0.25),
            ]
        });
        Applied {
            changed_elements: 1,
            merged_elements: 2,
            unchanged: Vec::new(),
            adapters: vec![adapter],
            modules: modules.chain([module("lm_head", 0.5, 1.0)]).collect(),
            encoded_again: None,
        }
    }

    #[test]
    fn everything_is_in_a_table_and_nothing_needs_a_script() {
        let applied = applied();
        let page = Page {
            output: "merged".to_owned(),
            adapters: vec![("style".to_owned(), 0.5.into())],
            decisions: vec!["the head is untied".to_owned()],
            applied: Some(&applied),
            files: vec![("model.safetensors".to_owned(), 12, "abc".to_owned())],
            ..Page::default()
        };
        let html = page.html();
        assert!(!html.contains("<script") && !html.contains("http"));
        for text in
            ["the head is untied", "style × 0.5", "mlp.experts.*.up_proj", "self_attn.q_proj", "lm_head"]
        {
            assert!(html.contains(text), "no `{text}` in {html}");
        }
        // Layer 2 of q_proj: 0.3 of 10. Experts are one cell: √(0.3² + 0.4²) of √(10² + 10²), and what is left of both.
        assert!(html.contains(">3.00 %<") && html.contains(">3.54 %<") && html.contains(">34 %<"), "{html}");
    }

    #[test]
    fn names_from_files_are_text() {
        let hostile = "</title><script>alert(1)</script>&\"'";
        let page = Page {
            output: hostile.to_owned(),
            facts: vec![("base", hostile.to_owned())],
            adapters: vec![(hostile.to_owned(), 1.0.into())],
            decisions: vec![hostile.to_owned()],
            notes: vec![hostile.to_owned()],
            files: vec![(hostile.to_owned(), 1, hostile.to_owned())],
            applied: Some(&Applied { modules: vec![module(hostile, 1.0, 1.0)], ..applied() }),
            hint: Some(hostile.to_owned()),
            threads: &[],
        };
        let html = page.html();
        assert!(!html.contains("<script"), "{html}");
    }

    #[test]
    fn a_timeline_has_a_row_for_each_thread() {
        let clocks = Clocks::default();
        let clock = clocks.stage("reader");
        clock.spend(Activity::Read, || std::thread::sleep(std::time::Duration::from_millis(5)));
        let threads = clocks.threads();
        let html = Page { threads: &threads, ..Page::default() }.html();
        assert!(html.contains("reader") && html.contains("<svg") && html.contains("role=\"img\""), "{html}");
    }
}
