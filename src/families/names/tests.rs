//! Whole readings: the vectors of key-mapping.md 13, and models as transformers saves and holds them.
