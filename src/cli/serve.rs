//! `sealift serve`
