//! What the use of a store costs: the requests that the store itself has seen.

use crate::edge::{BORN, entry, get, open, read_checked, wait};
use crate::moto;
use crate::proxy::Proxy;
use crate::support::{eventually, long};
use larder::tier::object::{Coordination, Outcome, Request};

#[test]
fn to_put_and_to_look_up_cost_one_request_each_and_no_other() {
    let Some(moto) = moto::start() else { return };
    moto::bucket(moto, "priced");
    let proxy = Proxy::before(moto.address);
    let tier = open(moto::settings(proxy.address, "priced"));
    eventually("the self-test ends", || {
        tier.coordination() == Coordination::Supported
    });
    // Its two objects are deleted after that.
    eventually("the self-test tidies up", || {
        tier.stats().requests(Request::Delete, Outcome::Done) == 2
    });

    let before = proxy.asked().len();
    let stats = tier.stats();
    let puts: u64 = if long() { 10_000 } else { 500 };
    for number in 0..puts {
        tier.put(&entry(&format!("put {number}"), 1_000), BORN)
            .unwrap();
        // The queue is bounded in bytes, and this is not about that.
        if number % 500 == 499 {
            eventually("a lot is uploaded", || tier.waiting().items == 0);
        }
    }
    assert_eq!(wait(tier.settle()).items, 0);
    assert_eq!(stats.writes.get(), puts);
    let only = |method: &str, from: usize, requests: u64, again: u64| {
        let lines = proxy.asked().split_off(from);
        let wanted = format!("{method} /priced/edge/one/v1/obj/");
        let other: Vec<&String> = lines.iter().filter(|it| !it.starts_with(&wanted)).collect();
        assert!(
            other.is_empty(),
            "{} of {}: {other:?}",
            other.len(),
            lines.len()
        );
        // What is asked for once more may be given up before it is sent.
        let sent = u64::try_from(lines.len()).expect("few");
        assert!(
            (requests..=requests + again).contains(&sent),
            "{sent} of {requests} and {again}"
        );
        from + lines.len()
    };
    let retries = stats.retries.get();
    let before = only("PUT", before, puts, retries);

    let lookups = 50;
    for number in 0..lookups {
        assert!(read_checked(&tier, &format!("put {number}")));
        assert!(get(&tier, &format!("not put {number}")).unwrap().is_none());
    }
    let again = stats.retries.get() - retries + stats.hedges.get();
    only("GET", before, 2 * lookups, again);
}
