#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| casklog_fuzz::manifest::run(data));
