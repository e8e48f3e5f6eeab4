//! What tells of an adapter's producer; each dialect says how it is found.

/// What an adapter shows of the program that wrote it, as far as that decides how its tensors lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The version of PEFT that it names.
    pub peft: Option<[u64; 3]>,
    /// Unsloth wrote it.
    pub is_unsloth: bool,
    /// NeMo AutoModel wrote it.
    pub is_nemo: bool,
    /// Megatron-Bridge wrote it.
    pub is_megatron_bridge: bool,
    /// torchtune exported it.
    pub is_torchtune: bool,
}
