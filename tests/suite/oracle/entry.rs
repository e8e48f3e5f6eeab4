//! One entry of `deltas` in `case.json`, with the adapter that it names.

use serde_json::Value;

use super::Tensors;
use super::grid::Grid;

pub struct Entry<'a> {
    pub json: &'a Value,
    pub adapter: &'a Tensors,
    /// What the adapter is multiplied by.
    pub weight: f64,
}

impl Entry<'_> {
    pub fn kind(&self) -> &str {
        self.json["kind"].as_str().unwrap_or("lora")
    }

    /// The adapter's tensor whose key stands in a field.
    pub fn grid(&self, field: &str) -> Grid {
        self.maybe_grid(field).unwrap_or_else(|| panic!("no `{field}` in {}", self.json))
    }

    /// The same; `None` if the field is absent or null.
    pub fn maybe_grid(&self, field: &str) -> Option<Grid> {
        let key = self.json[field].as_str()?;
        Some(self.adapter.get(key).unwrap_or_else(|| panic!("the adapter has no `{key}`")).into())
    }

    /// The scale of the adapter's own, rounded to f32, times its weight, rounded again.
    pub fn scale(&self) -> f64 {
        let all = self.json["scale"].as_f64().unwrap_or_else(|| panic!("no `scale` in {}", self.json));
        let own = if self.weight == 0.0 { 0.0 } else { all / self.weight };
        f64::from((f64::from(own as f32) * self.weight) as f32)
    }

    pub fn count(&self, field: &str) -> usize {
        let count = self.json[field].as_u64();
        count.unwrap_or_else(|| panic!("no `{field}` in {}", self.json)) as usize
    }

    /// False if absent.
    pub fn flag(&self, field: &str) -> bool {
        self.json[field].as_bool().unwrap_or(false)
    }

    pub fn word(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {}", self.json))
    }
}
