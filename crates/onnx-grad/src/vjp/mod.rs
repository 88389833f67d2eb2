//! The vector-Jacobian product of each operator, one file per family of operators.
