//! The rules of the house, asserted from the workspace itself.
