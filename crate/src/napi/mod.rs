//! The only files that know Node.
