//! The fakes keep the same promises as the adapters they stand for.

mod store {
    use hearth_actors::testing::memory::MemoryStore;

    hearth_actors::store_contract!(paused std::future::ready(MemoryStore::default()));
}
