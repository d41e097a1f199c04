//! What the program does, claimed from outside: the real binary, a real file, and the sandbox
//! as its server. Each test is named as the claim it holds.

mod first_sync;
mod house;
mod world;
