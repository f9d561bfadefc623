//! Intake, sealing, store, routes and access: the part of Mesyx that knows no protocol but its own.
