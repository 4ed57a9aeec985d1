//! All tests that run against the library or the program from outside, in one binary. One module per line.

mod agents; // real programs in real terminals
mod ages; // one node, engines of every age
mod answering; // agents that answer
mod asking; // a person at the command line
mod attaching; // a person's terminal joined to an agent's
mod backing; // a copy of the state folder
mod checking; // what is told of settings before anything starts
mod circles; // files that import each other in a circle
mod crowding; // callers without a key who take all places
mod declaring; // agents that the operator declares
mod degrading; // the disk fails, fills up or goes away
mod delivering; // a message from an engine reaches a program
mod embedded; // the engine that comes with the broker
#[cfg(feature = "tls")]
mod encrypting; // an engine behind TLS
mod enrolling; // a node gets its identity and its token
mod exiting; // how the program ends
mod explaining; // why messages do not arrive, and what to do about it
mod fleet; // several machines in one workspace
mod formats; // fixtures of frames and journals
mod guarding; // what other users of the machine prepare or try
mod handing_in; // agents that are started for a result
mod headless; // agents without a terminal
mod hostile; // senders that try to press keys
mod journalling; // a look into the journal
mod journals; // journals of every kind of record, read as they were written
mod keeping_out; // what an agent's token does not open
mod layers; // who imports whom
mod limited; // machines with little of everything
mod linking; // the link to an engine, whatever it sends and however it breaks
mod logging; // where the log goes and what signals do about it
mod measuring; // the numbers that monitoring reads
mod misbehaving; // the engine as a test double of others
mod names; // one meaning for each name
mod notifying; // a command for what wants a person
mod papers; // what is said in Markdown and comments is so
mod probing; // whether it works, and whether it can be given work
mod proving; // what programs say of the messages they took
mod recording; // what agents printed
mod reloading; // a hang-up signal
mod restarting; // whatever dies, it goes on where it was
mod returning; // agents and messages that come back
mod shapes; // what programs read of commands
mod shells; // what is written for shells and for man
mod slow; // programs that read slowly, late or never
mod sources; // reads the text of the program
mod standing_in; // in the place of upstream's broker
mod stopping; // signals to a running broker
mod supervising; // under a service manager
mod support; // what the others share
mod surroundings; // whatever a parent leaves to the program
mod tracing; // the life of a message, also long afterwards
mod treating; // how the operator wants agents to be treated
mod unattended; // brokers that cron and nobody else looks after
