//! Notes of the base, the adapters and where they are.

use crate::note::declare::{first_of, verb};

notes! {
    /// A note of the base, an adapter, or where they are.
    InputNote {
        OlderFormat { from: String, to: String } => ("weights are read from `{from}`, and written as `{to}`"),
        BaseFromAdapter { base: String, adapter: String } =>
            ("base: `{base}` (from adapter_config.json of `{adapter}`)"),
        ReadFromHub { what: String } =>
            ("`{what}` is read from the Hugging Face hub as it is needed: no copy of it is kept"),
        AdapterFoundIn { location: String } =>
            ("the adapter is in `{location}`"),
        FlagsFromEnvironment { variables: Vec<String> } =>
            ("flags from the environment: {}", variables.join(", ")),
        UnknownVariable { variable: String, like: String } =>
            ("the environment has `{variable}`, which no flag has: ignored (is it `{like}`?)"),
        LogUnwritable { path: String, cause: String } =>
            ("`--log-file {path}` cannot be written, so that there is no log: {cause}"),
        Variant { variant: String } =>
            ("the weights are the variant `{variant}`: load the result with `variant=\"{variant}\"`"),
        NotInIndex { files: Vec<String> } =>
            ("{} {} not in the index; skipped", first_of(files), verb(files.len(), ["is", "are"])),
        StaleCopies { tensors: Vec<String>, shards: Vec<String> } => (
            "{} {} in two shards, and the index says which counts: the copies in {} are left out of the result",
            first_of(tensors), verb(tensors.len(), ["is", "are"]), first_of(shards)
        ),
        Unlisted { tensors: Vec<String> } => (
            "the index does not list {}, which {} with the shards that hold them",
            first_of(tensors), verb(tensors.len(), ["passes through", "pass through"])
        ),
        OtherWeightFiles { used: String } =>
            ("`{used}` is the checkpoint; other safetensors files are skipped"),
        QuantizationDropped { stated: Vec<String> } => (
            "{} {} left out of the result: no tensor of the base is quantized, so that nothing bears it out",
            stated.join(" and "), verb(stated.len(), ["is", "are"])
        ),
        OtherBasis { titles: String } => (
            "the base is stored as {titles}, which moves factors of inputs into the layers before: an adapter fits it that was \
             trained on this checkpoint, and none that was trained on the model it was made from"
        ),
        UnknownPeftType { peft_type: String } =>
            ("`peft_type` `{peft_type}` is not supported: its tensors are only listed"),
        TrainedOnQuantized { adapter: String, trained_on: String } => (
            "`{adapter}` was trained on `{trained_on}`, a quantized build, and is merged into a base that is not quantized: this \
             is the usual choice, but training saw the rounded weights, so results can differ slightly from those seen then; \
             `--base-as nf4` takes the base as training with bitsandbytes saw it"
        ),
        UnmergedBeside { file: String } => (
            "`{file}` beside the adapter holds weights that are not the adapter's: no merge takes them along, and `merge` asks for \
             `--allow-unmerged-file {file}`"
        ),
        UnmergedAllowed { adapter: String, file: String } =>
            ("`{file}` beside the adapter `{adapter}` holds weights and is left out (--allow-unmerged-file)"),
        OtherClassAllowed { adapter: String, trained_on: String, base: String } => (
            "`{adapter}` was trained on a `{trained_on}` and is merged into a `{base}` (--allow-other-base)"
        ),
        OtherFamily { adapter: String, trained_on: String, model_type: String } => (
            "`{adapter}` was trained on `{trained_on}`, and the model type of this base is `{model_type}`: its shapes fit, but \
             make sure it is the same model"
        ),
        OtherBase { adapter: String, trained_on: String, base: String } => (
            "`{adapter}` was trained on `{trained_on}`, and this base calls itself `{base}`: its shapes fit, but make sure it is \
             the same model"
        ),
    }
}
