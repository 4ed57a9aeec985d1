//! Children that ended.
