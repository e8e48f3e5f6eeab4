//! Element types of the Rust crate, which tests compare with, and ours.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;

use crate::tensor::dtype::Dtype;

/// All types, in order.
pub(crate) const DTYPES: [Dtype; 22] = {
    use Dtype::*;
    [
        BOOL,
        F4,
        F6_E2M3,
        F6_E3M2,
        U8,
        I8,
        F8_E5M2,
        F8_E4M3,
        F8_E8M0,
        F8_E4M3FNUZ,
        F8_E5M2FNUZ,
        I16,
        U16,
        F16,
        BF16,
        I32,
        U32,
        F32,
        C64,
        F64,
        I64,
        U64,
    ]
};

/// Our type of theirs; `None` for one that a later version of the crate adds.
pub(crate) fn from_theirs(theirs: safetensors::Dtype) -> Option<Dtype> {
    let name = theirs.to_string();
    DTYPES.into_iter().find(|ours| ours.to_string() == name)
}

/// Their type of ours.
pub(crate) fn to_theirs(ours: Dtype) -> safetensors::Dtype {
    let name = ours.to_string();
    let theirs: Result<_, Error> = safetensors::Dtype::deserialize(name.as_str().into_deserializer());
    theirs.expect("the crate knows all of ours")
}

/// Names, sizes and order end up in plans, reports and files: all are those of the crate.
#[test]
fn types_are_those_of_the_crate() {
    for ours in DTYPES {
        let theirs = to_theirs(ours);
        assert_eq!(from_theirs(theirs), Some(ours));
        assert_eq!(serde_json::to_string(&ours).unwrap(), serde_json::to_string(&theirs).unwrap());
        assert_eq!(serde_json::from_value::<Dtype>(serde_json::to_value(theirs).unwrap()).unwrap(), ours);
        assert_eq!((ours.to_string(), format!("{ours:?}")), (theirs.to_string(), format!("{theirs:?}")));
        assert_eq!(ours.bitsize(), theirs.bitsize(), "{ours}");
        for other in DTYPES {
            assert_eq!(ours.cmp(&other), theirs.cmp(&to_theirs(other)), "{ours} and {other}");
        }
    }
    assert!(DTYPES.is_sorted());
}
