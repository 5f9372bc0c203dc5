#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| any_input::control_socket_made(data));
