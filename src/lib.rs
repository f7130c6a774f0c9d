//! One Mixture-of-Experts stack, trained and served on any vendor's hardware.
