//! Checkpoints of image models in one file, by the names of the code that they were first trained by.
//!
//! [`parts`] knows which components such a file has and what their names begin with; [`unet`], [`original_names`] and [`open_clip`] what
//! diffusers and transformers call what is inside. Adapters are trained by these or those names, so that tensors get the ones of diffusers
//! here, each behind the directory that its component has in a pipeline. The result keeps the file's. The other way round,
//! [`original_names`] and [`unet_names`] say what adapters may call a module of a component that diffusers saved.

pub(crate) mod joined;
pub(crate) mod open_clip;
pub(crate) mod original_names;
pub(crate) mod parts;
pub(crate) mod unet;
pub(crate) mod unet_names;
