//! Runs every model.

use larder_models::{
    flights, index, memory, purge_log, purges, queue, readers, receipts, segments, succession,
};

/// A test for each model.
macro_rules! models {
    ($($subject:ident::$model:ident;)*) => {$(
        #[test]
        fn $model() {
            $subject::$model();
        }
    )*};
}

models! {
    flights::a_pilot_waits_for_the_fastest_reader_alone;
    flights::everyone_aboard_hears_of_the_end;
    flights::places_come_back_whoever_leaves;
    index::what_is_there_is_found_whatever_its_table_does;
    index::who_moves_or_forgets_means_what_it_saw;
    memory::a_budget_is_kept_and_nothing_of_it_is_lost;
    memory::a_domain_stops_whatever_goes_on;
    memory::a_new_capacity_is_kept_to;
    memory::what_is_too_much_is_heard_of;
    memory::who_is_wanted_while_it_starts_hears_of_it;
    memory::who_settles_is_answered_by_a_later_round;
    purge_log::what_is_acknowledged_is_on_the_device;
    purges::a_purge_leaves_nothing_of_a_fetch_that_began_before;
    purges::of_two_fetches_the_later_one_stays;
    queue::what_is_put_is_never_out_of_sight;
    queue::who_claims_last_is_found;
    queue::who_settles_hears_of_the_end_of_what_was_put;
    queue::who_waits_for_room_gets_it;
    readers::everyone_who_reads_is_answered;
    receipts::every_receipt_settles_once;
    receipts::no_walk_begins_after_a_stop;
    segments::what_is_pinned_and_live_keeps_its_bytes;
    segments::what_is_read_is_of_this_life_if_it_is_not_gone;
    succession::a_purge_leaves_nothing_below_that_is_found;
    succession::of_two_stores_one_is_everywhere;
    succession::what_is_stored_is_not_followed_by_what_was_there_before;
}
