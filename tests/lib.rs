//! Scenario tests on real runtimes, and the tidy test.
