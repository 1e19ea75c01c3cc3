//! What the fuzz targets share.

#[path = "../../tests/law/mod.rs"]
pub mod law;
pub mod start;
