//! Options of trained rows of tokens: which tokens the rows are for, module by module.

use serde_json::Value;

use crate::adapters::peft::config::{AdapterConfig, shortened};

/// Fields that list the tokens: of the method of its own, and of LoRA.
pub(crate) const FIELDS: [&str; 2] = ["token_indices", "trainable_token_indices"];

/// The tokens that rows are for.
#[derive(Clone, Debug)]
pub(crate) struct TokenOptions {
    /// Tokens are listed, in whatever form.
    pub is_set: bool,
    /// The field that lists them.
    pub field: &'static str,
    /// Its value, as messages show it.
    pub shown: String,
    lists: Lists,
}

/// A list of tokens in the order of the rows, if that is what the config has there.
type Tokens = Option<Vec<u64>>;

#[derive(Clone, Debug)]
enum Lists {
    /// One list, the input embedding's.
    One(Tokens),
    /// By the ends of modules' paths.
    ByModule(Vec<(String, Tokens)>),
}

impl TokenOptions {
    /// Reads them.
    pub(crate) fn read(config: &AdapterConfig) -> TokenOptions {
        let [own, of_lora] = FIELDS;
        let field = if config.get(own).is_some() { own } else { of_lora };
        let value = config.get(field).unwrap_or(&Value::Null);
        let lists = match value {
            Value::Object(modules) => {
                Lists::ByModule(modules.iter().map(|(module, list)| (module.clone(), tokens(list))).collect())
            }
            list => Lists::One(tokens(list)),
        };
        let is_set = config.active().any(|(field, _)| FIELDS.contains(&field));
        TokenOptions { is_set, field, shown: shortened(value), lists }
    }

    /// The tokens of a module.
    pub(crate) fn of(&self, module: &str) -> Option<&[u64]> {
        let is_named =
            |key: &str| module == key || module.strip_suffix(key).is_some_and(|rest| rest.ends_with('.'));
        match &self.lists {
            Lists::One(tokens) => tokens.as_deref(),
            Lists::ByModule(lists) => lists.iter().find(|(key, _)| is_named(key))?.1.as_deref(),
        }
    }
}

fn tokens(list: &Value) -> Tokens {
    list.as_array()?.iter().map(Value::as_u64).collect()
}
