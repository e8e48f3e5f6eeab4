//! The options of all methods.

use serde_json::Map;

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::methods::bdlora::BlockOptions;
use crate::adapters::peft::methods::ia3::Feedforward;
use crate::adapters::peft::methods::lora::LoraOptions;
use crate::adapters::peft::methods::oft::OftOptions;
use crate::adapters::peft::methods::settings::MethodSettings;
use crate::adapters::peft::methods::tokens::TokenOptions;
use crate::adapters::problem::Problem;

/// What single methods must know beside their tensors.
#[derive(Clone, Debug)]
pub(crate) struct MethodOptions {
    /// LoRA's, beside those that every method with factors has.
    pub lora: LoraOptions,
    /// Which of LoRA's factors have blocks, if any.
    pub bdlora: Result<Option<BlockOptions>, Problem>,
    /// IA³'s.
    pub ia3: Feedforward,
    /// OFT's.
    pub oft: OftOptions,
    /// Those of trained rows of tokens.
    pub tokens: TokenOptions,
    /// Numbers and words of all others.
    pub settings: MethodSettings,
}

impl MethodOptions {
    /// Reads all of them.
    pub(crate) fn read(config: &AdapterConfig) -> MethodOptions {
        MethodOptions {
            lora: LoraOptions::read(config),
            bdlora: BlockOptions::read(config),
            ia3: Feedforward::read(config),
            oft: OftOptions::read(config),
            tokens: TokenOptions::read(config),
            settings: MethodSettings::read(config),
        }
    }
}

impl Default for MethodOptions {
    /// Those of an adapter that says nothing.
    fn default() -> MethodOptions {
        MethodOptions::read(&AdapterConfig::new(String::new(), Map::new()))
    }
}
