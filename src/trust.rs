//! Who vouches for a bundle.
