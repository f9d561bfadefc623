//! Hosts bridges: registry, supervision, grants.
