//! What the fuzz targets share: a disk in memory, records, and a second opinion about what the journal says.

pub mod disk;
pub mod forge;
pub mod model;
pub mod records;
