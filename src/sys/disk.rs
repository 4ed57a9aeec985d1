//! Files as the journal and the small stores need them.
