//! Checkpoints of image models in one file, by the names of the code that they were first trained by.
//!
//! [`parts`] knows which components such a file has and what their names begin with; [`unet`] and [`open_clip`] what diffusers and
//! transformers call what is inside. Adapters are trained by these or those names, so that tensors get the ones of diffusers here, each
//! behind the directory that its component has in a pipeline. The result keeps the file's.

pub(crate) mod open_clip;
pub(crate) mod parts;
pub(crate) mod unet;
