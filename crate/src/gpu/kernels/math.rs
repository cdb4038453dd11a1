//! Functions of one number in WGSL.
