//! BdLoRA's options: which factors have blocks, and how many.

use serde_json::{Map, Value};

use crate::adapters::peft::config::{AdapterConfig, shortened};
use crate::adapters::problem::Problem;

/// The field that holds them.
pub(crate) const FIELD: &str = "use_bdlora";
const A_FIELD: &str = "target_modules_bd_a";
const B_FIELD: &str = "target_modules_bd_b";
const FIELDS: &[&str] = &["nblocks", A_FIELD, B_FIELD, "match_strict"];

/// Which factors have blocks.
#[derive(Clone, Debug)]
pub(crate) struct BlockOptions {
    /// How many a factor has.
    pub count: u64,
    /// The field's value, as messages show it.
    pub shown: String,
    /// Parts of the paths of modules whose `A` has blocks.
    a: Vec<String>,
    /// The same for `B`.
    b: Vec<String>,
}

impl BlockOptions {
    /// Reads them; none where the field does not switch them on.
    pub(crate) fn read(config: &AdapterConfig) -> Result<Option<BlockOptions>, Problem> {
        let bad = |value: &Value, why: &'static str| {
            Err(Problem::Value { field: FIELD.to_owned(), value: value.clone(), why })
        };
        match config.get(FIELD) {
            None | Some(Value::Bool(false)) => Ok(None),
            Some(Value::Object(fields)) if fields.is_empty() => Ok(None),
            Some(value) if config.is_set("use_dora") && value.is_object() => {
                bad(value, "PEFT does not combine with `use_dora`, so that no one can say what it means")
            }
            Some(value @ Value::Object(fields)) => of_fields(value, fields).map(Some),
            Some(other) => bad(other, "does not say which factors have blocks"),
        }
    }

    /// Whether the `A` of a module has blocks. PEFT's rule: an entry stands anywhere in the path.
    pub(crate) fn of_a(&self, module: &str) -> bool {
        self.a.iter().any(|entry| module.contains(entry.as_str()))
    }

    /// The same for `B`.
    pub(crate) fn of_b(&self, module: &str) -> bool {
        self.b.iter().any(|entry| module.contains(entry.as_str()))
    }
}

fn of_fields(value: &Value, fields: &Map<String, Value>) -> Result<BlockOptions, Problem> {
    let bad = |why: &'static str| Err(Problem::Value { field: FIELD.to_owned(), value: value.clone(), why });
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(Problem::Unknown { field: FIELD, value: value.clone(), unknown: unknown.clone() });
    }
    let Some(count) = fields.get("nblocks").map_or(Some(1), Value::as_u64).filter(|&count| count > 0) else {
        return bad("needs a whole number above zero as its `nblocks`");
    };
    match [A_FIELD, B_FIELD].map(|name| names(fields.get(name))) {
        [Some(a), Some(b)] => Ok(BlockOptions { count, shown: shortened(value), a, b }),
        _ => bad("needs lists of names as its `target_modules_bd_a` and `target_modules_bd_b`"),
    }
}

/// The names of a list; none of one that is not there or null, and nothing of what is no such list.
fn names(list: Option<&Value>) -> Option<Vec<String>> {
    match list {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(entries)) => {
            entries.iter().map(|entry| entry.as_str().map(str::to_owned)).collect()
        }
        Some(_) => None,
    }
}
