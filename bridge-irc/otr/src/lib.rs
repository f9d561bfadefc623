//! Off-the-Record messaging, versions 2 and 3, without I/O.
