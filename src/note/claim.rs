//! Notes of what an adapter's tensors do.

notes! {
    /// A note of what an adapter's tensors do.
    ClaimNote {
        SquareOrientation { module: String, stored: &'static str, fan_in_fan_out: bool } => (
            "`{module}` is square, so its shape does not tell how it is stored; {stored} is followed, not `fan_in_fan_out` of \
             the adapter, which says {fan_in_fan_out}"
        ),
        AttentionAddsTwice { module: String } =>
            ("the delta of `{module}` is added twice, as PEFT's multi-head attention does in training"),
        FewerRows { tensor: String, found: String, base: String } => (
            "`{tensor}` has fewer rows, {found} for {base}: make sure that the tokenizer has no more tokens"
        ),
        TiedTrainedApart { head: String, embedding: String } => (
            "`ensure_weight_tying` is set, but the factors of `{head}` and `{embedding}` differ: each was trained on its own"
        ),
        ParametersReordered { module: String, more: usize } => (
            "the parameters of `{module}` and of {more} more modules are nested in another order than PEFT nests them; their \
             shapes tell which is which"
        ),
        TaskNotSet { adapter: String, module: String } => (
            "`{module}` is new, and `{adapter}` sets no `task_type`: the class in config.json stays the base's, so load the result \
             by the class that it was trained in"
        ),
        EarlyCayley { adapter: String } => (
            "`{adapter}` was trained with PEFT before 0.18, which made rotations from a slightly different series: PEFT warns of \
             this too, and merges it as shardfold does"
        ),
        NoCayleyTerms { adapter: String } =>
            ("`{adapter}` sets `num_cayley_neumann_terms` below 2, so that it rotates nothing, as in PEFT"),
        BlocksOfOne { tensor: String } =>
            ("`{tensor}` has blocks of one element, which rotate nothing"),
    }
}
