//! Sites that contradict themselves or one another.

use super::refused;

#[test]
fn contradictions_of_sites_are_told() {
    let site = |more: &str| format!("[[site]]\norigin = \"http://a\"\n{more}\n");
    let two = |a: &str, b: &str| site(a) + &site(b);
    refused(
        &two(
            "hosts = [\"a.example\"]",
            "hosts = [\"b.example\", \"A.example\"]",
        ),
        "larder.toml:6: site[1].hosts[1]: \"a.example\" is given twice, first at larder.toml:3; \
         remove one",
    );
    refused(
        &two("name = \"a\"", "name = \"b\""),
        "larder.toml:4: site[1].hosts: a site without hosts takes every other authority, and the \
         one at larder.toml:1 does already; give this one hosts",
    );
    refused(
        &two("name = \"a\"", "name = \"a\"\nhosts = [\"b\"]"),
        "larder.toml:6: site[1].name: \"a\" is the name of the site at larder.toml:3 already; \
         write another name",
    );
    refused(
        &site("name = \"\""),
        "larder.toml:3: site[0].name: \"\" is not a site name; write 1 to 64 letters, digits, \
         \".\", \"_\" and \"-\", a letter or digit first",
    );
    refused(
        &site("hosts = [\"*.example\"]"),
        "larder.toml:3: site[0].hosts[0]: \"*.example\" is not a host; write a DNS name, an IPv4 \
         address or an IPv6 address in brackets",
    );
    refused(
        &site("hosts = [\"a:80\"]"),
        "larder.toml:3: site[0].hosts[0]: \"a:80\" is not a host; write a DNS name, an IPv4 \
         address or an IPv6 address in brackets",
    );
    refused(
        &site("host = \"a b\""),
        "larder.toml:3: site[0].host: \"a b\" is not a host; write a DNS name, an IPv4 address or \
         an IPv6 address in brackets, and a port if one is needed",
    );
    refused(
        &site("status_ttl = { 4xx = \"1s\", 206 = \"1s\" }"),
        "larder.toml:3: site[0].status_ttl.206: \"206\" is not a status; write a status from 200 to 599, \
         other than 206, 304, 412 and 416, or a class such as 4xx",
    );
    refused(
        &site("hit_for_miss = \"2d\""),
        "larder.toml:3: site[0].hit_for_miss: \"2d\" is out of range; write 0s to 1d",
    );
    refused(
        &site("ttl_min = \"2h\"\nttl_max = \"1h\""),
        "larder.toml:3: site[0].ttl_min: \"2h\" is more than ttl_max, which is \"1h\"",
    );
    refused(
        &site("policy.keying = \"native:lru\""),
        "larder.toml:3: site[0].policy.keying: \"native:lru\" is not a native rule of this hook; \
         write native:default or the name of a policy",
    );
    refused(
        &site("policy.eviction = { name = \"native:lru\", params = { a = 1 } }"),
        "larder.toml:3: site[0].policy.eviction: native:lru takes no version and no params; \
         remove them",
    );
}
