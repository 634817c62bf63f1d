//! The language itself.

use super::check;

#[test]
fn literals_and_operators() {
    check(
        r#"
        1 + 2 * 3 - 4 / 2 % 3 => 5
        -7 / 2 => -3
        -7 % 3 => -1
        0x1F => 31
        7u / 2u => 3
        1.5e3 => 1500.0
        .5 + 1.0 => 1.5
        --1 => 1
        !!true => true
        "a" + 'b' + """c""" + r'\d' => "abc\\d"
        "\u00e9\x41\101\n" => "éAA\n"
        b"\xff" == b'\377' => true
        size("héllo") => 5
        "x" < "y" && !(2 > 3) => true
        null == null => true
        [1, 2] + [3] => [1,2,3]
        {"a": 1, "b": 2}.b => 2
        {1: "x"}[dyn(1u)] => "x"
        [1, 2, 3,][1] => 2
        true ? 1 : 2 => 1
        // a comment
        2 in [1, 2] => true
        "k" in {"k": 1} => true
        "#
        .replace("// a comment", "1 => 1")
        .as_str(),
    );
}

#[test]
fn numbers_are_compared_across_types_and_do_not_wrap() {
    check(
        r#"
        1 < 1.5 && 2u > 1 && 1.0 <= 1u => true
        dyn(1) == 1.0 => true
        dyn(1) == dyn(1u) => true
        9223372036854775807 + 1 => error: integer overflow
        -9223372036854775807 - 2 => error: integer overflow
        -(-9223372036854775807 - 1) => error: integer overflow
        0u - 1u => error: unsigned integer overflow
        1 / 0 => error: division by zero
        1 % 0 => error: modulus by zero
        1.0 / 0.0 > 1.0e300 => true
        0.0 / 0.0 == 0.0 / 0.0 => false
        dyn(9223372036854775807) < 9223372036854775808.0 => true
        int(1e19) => error: integer overflow
        uint(-1) => error: unsigned integer overflow
        int("x") => error: strconv.ParseInt: parsing "x": invalid syntax
        int(3.9) + int("-4") => -1
        double("1.5") => 1.5
        string(1.0) + string(2u) + string(true) + string(1e30) => "12true1e+30"
        "#,
    );
}

#[test]
fn logic_absorbs_errors() {
    check(
        r#"
        1 / 0 == 1 || true => true
        true || 1 / 0 == 1 => true
        false && 1 / 0 == 1 => false
        1 / 0 == 1 && false => false
        1 / 0 == 1 && true => error: division by zero
        [0, 1].exists(x, 1 / x == 1) => true
        [0, 1].all(x, 1 / x == 2) => false
        [0, 1].all(x, 1 / x == 1) => error: division by zero
        "#,
    );
}

#[test]
fn loops() {
    check(
        r#"
        [1, 2, 3].all(x, x > 0) => true
        [1, 2, 3].exists(x, x > 2) => true
        [1, 2, 3].exists_one(x, x > 2) => true
        [1, 2, 3].map(x, x * 2) => [2,4,6]
        [1, 2, 3].map(x, x > 1, x * 2) => [4,6]
        [1, 2, 3].filter(x, x % 2 == 1) => [1,3]
        {"a": 1, "b": 2}.map(k, k) => ["a","b"]
        [[1], [2, 3]].map(x, x.map(y, y + size(x))) => [[2],[4,5]]
        [5, 6].all(i, v, v == i + 5) => true
        {"a": 1}.exists(k, v, k == "a" && v == 1) => true
        [5, 6].transformList(i, v, i * v) => [0,6]
        [5, 6].transformList(i, v, v > 5, i) => [1]
        {"a": 1, "b": 2}.transformMap(k, v, v > 1, v * 10) => {"b":20}
        {"a": "x"}.transformMapEntry(k, v, {v: k}) => {"x":"a"}
        [1, 1].transformMapEntry(i, v, {v: i}) => error: insert failed: key 1 already exists
        [1, 2].map(x, [x].map(x, x + 1)[0]) => [2,3]
        "#,
    );
}

#[test]
fn data_is_what_its_schema_says() {
    check(
        r#"
        self.replicas + 1 => 4
        self.ratio / 4.0 => 0.5
        type(self.ratio) == double => true
        self.when.getFullYear() => 2024
        self.when - duration("1h") < self.when => true
        self.wait == duration("90m") => true
        self.any.a[1] + 0.5 => 3.0
        type(self.any.a[2]) == string => true
        self.any.a[3] == null => true
        has(self.name) && !has(self.any.b) => true
        self.any.b => error: no such key: b
        self.labels["a/b"] => "c"
        self.labels["zz"] => error: no such key: zz
        self.words[7] => error: index out of bounds: 7
        "x" in self.labels => false
        self.tags == ["b", "a"] => true
        self.words == ["a", "b"] => false
        self.tags + ["b", "c"] => ["a","b","c"]
        self.items.exists(i, i.port == 53) => true
        self.items.filter(i, i.name.startsWith("h")).map(i, i.port) => [80]
        self.items == [self.items[1], self.items[0]] => true
        self.labels.all(k, k.size() > 2) => true
        "#,
    );
}

#[test]
fn optionals() {
    check(
        r#"
        optional.of(1).value() => 1
        optional.none().hasValue() => false
        optional.none().orValue(3) => 3
        self.?name.orValue("x") => "web"
        self.any.?b.orValue("x") => "x"
        self.any.?b.?c.hasValue() => false
        self.labels[?"app"].orValue("") => "web"
        self.words[?9].or(optional.of("z")).value() => "z"
        [1, ?optional.none(), ?optional.of(2)] => [1,2]
        {"a": 1, ?"b": optional.none()} => {"a":1}
        optional.of(2).optMap(x, x * 2).value() => 4
        optional.of(2).optFlatMap(x, optional.none()).hasValue() => false
        optional.none().value() => error: optional.none() dereference
        optional.ofNonZeroValue("").hasValue() => false
        [1, 2].first().value() + [1, 2].last().value() => 3
        [optional.of(1), optional.none()].unwrapOpt() => [1]
        "#,
    );
}
