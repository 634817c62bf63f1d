//! Calls that are no calls: `has`, the loops, and the two on optionals.
//!
//! Invariant: what a macro expands to is as deep as its arguments, plus a constant.

use crate::ast::{ACCUMULATOR, Comprehension, Element, Entry, Expr, Kind, Literal};
use crate::issue::Issues;
use crate::parser::Parser;

type Expanded = Result<Expr, Issues>;

/// A call of `name(args)`.
pub(crate) fn global_call(
    parser: &mut Parser<'_>,
    position: usize,
    name: String,
    mut args: Vec<Expr>,
) -> Expanded {
    if name == "has" && args.len() == 1 {
        let arg = args.remove(0);
        return match arg.kind {
            Kind::Select {
                operand,
                field,
                test: false,
            } => {
                let kind = Kind::Select {
                    operand,
                    field,
                    test: true,
                };
                parser.node(position, kind)
            }
            _ => Err(parser.fault(position, "invalid argument to has() macro")),
        };
    }
    let kind = Kind::Call {
        function: name,
        target: None,
        args,
    };
    parser.node(position, kind)
}

/// A call of `target.name(args)`.
pub(crate) fn member_call(
    parser: &mut Parser<'_>,
    position: usize,
    name: String,
    target: Expr,
    mut args: Vec<Expr>,
) -> Expanded {
    let mut build = Build { parser, position };
    match (name.as_str(), args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne", 2 | 3) => {
            let body = take_last(&mut args);
            let vars = build.vars(&args)?;
            build.quantifier(&name, target, vars, body)
        }
        ("map", 2 | 3) | ("filter", 2) => {
            let body = take_last(&mut args);
            let filter = (args.len() == 2).then(|| args.remove(1));
            let vars = build.vars(&args)?;
            if name == "filter" {
                let element = build.ident(&vars.0)?;
                build.gather(target, vars, Some(body), element)
            } else {
                build.gather(target, vars, filter, body)
            }
        }
        ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => {
            let body = take_last(&mut args);
            let filter = (args.len() == 3).then(|| args.remove(2));
            let vars = build.vars(&args)?;
            match name.as_str() {
                "transformList" => build.gather(target, vars, filter, body),
                name => build.transform_map(name == "transformMap", target, vars, filter, body),
            }
        }
        ("optMap" | "optFlatMap", 2) => {
            let body = take_last(&mut args);
            build.opt_map(name == "optFlatMap", target, &args, body)
        }
        ("sortBy", 2) => {
            let body = take_last(&mut args);
            build.sort_by(target, &args, body)
        }
        _ => {
            let kind = Kind::Call {
                function: name,
                target: Some(Box::new(target)),
                args,
            };
            parser.node(position, kind)
        }
    }
}

fn take_last(args: &mut Vec<Expr>) -> Expr {
    args.pop().unwrap_or(Expr {
        id: 0,
        kind: Kind::Literal(Literal::Null),
    })
}

struct Build<'a, 'b> {
    parser: &'a mut Parser<'b>,
    position: usize,
}

type Vars = (String, Option<String>);

impl Build<'_, '_> {
    fn node(&mut self, kind: Kind) -> Expanded {
        self.parser.node(self.position, kind)
    }

    fn ident(&mut self, name: &str) -> Expanded {
        self.node(Kind::Ident(name.to_owned()))
    }

    fn literal(&mut self, literal: Literal) -> Expanded {
        self.node(Kind::Literal(literal))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expanded {
        self.node(Kind::Call {
            function: function.to_owned(),
            target: None,
            args,
        })
    }

    fn list(&mut self, values: Vec<Expr>) -> Expanded {
        let elements = values.into_iter().map(|value| Element {
            value,
            optional: false,
        });
        let kind = Kind::List(elements.collect());
        self.node(kind)
    }

    fn vars(&self, args: &[Expr]) -> Result<Vars, Issues> {
        let mut names = Vec::new();
        for arg in args {
            let Kind::Ident(name) = &arg.kind else {
                let message = "argument must be a simple name";
                return Err(self.parser.fault(self.parser.position_of(arg), message));
            };
            if names.contains(name) {
                let message = format!("duplicate variable name: {name}");
                return Err(self.parser.fault(self.parser.position_of(arg), &message));
            }
            names.push(name.clone());
        }
        let mut names = names.into_iter();
        Ok((names.next().unwrap_or_default(), names.next()))
    }

    fn comprehension(
        &mut self,
        range: Expr,
        vars: Vars,
        init: Expr,
        loops: (Expr, Expr),
        result: Expr,
    ) -> Expanded {
        self.node(Kind::Comprehension(Box::new(Comprehension {
            range,
            var: vars.0,
            var2: vars.1,
            accu: ACCUMULATOR.to_owned(),
            init,
            condition: loops.0,
            step: loops.1,
            result,
        })))
    }

    fn quantifier(&mut self, name: &str, range: Expr, vars: Vars, body: Expr) -> Expanded {
        let accu = self.ident(ACCUMULATOR)?;
        match name {
            "all" => {
                let init = self.literal(Literal::Bool(true))?;
                let read = self.ident(ACCUMULATOR)?;
                let condition = self.call("@not_strictly_false", vec![read])?;
                let step = self.call("_&&_", vec![accu, body])?;
                let result = self.ident(ACCUMULATOR)?;
                self.comprehension(range, vars, init, (condition, step), result)
            }
            "exists" => {
                let init = self.literal(Literal::Bool(false))?;
                let read = self.ident(ACCUMULATOR)?;
                let not = self.call("!_", vec![read])?;
                let condition = self.call("@not_strictly_false", vec![not])?;
                let step = self.call("_||_", vec![accu, body])?;
                let result = self.ident(ACCUMULATOR)?;
                self.comprehension(range, vars, init, (condition, step), result)
            }
            _ => {
                let init = self.literal(Literal::Int(0))?;
                let condition = self.literal(Literal::Bool(true))?;
                let one = self.literal(Literal::Int(1))?;
                let more = self.call("_+_", vec![accu, one])?;
                let same = self.ident(ACCUMULATOR)?;
                let step = self.call("_?_:_", vec![body, more, same])?;
                let read = self.ident(ACCUMULATOR)?;
                let one = self.literal(Literal::Int(1))?;
                let result = self.call("_==_", vec![read, one])?;
                self.comprehension(range, vars, init, (condition, step), result)
            }
        }
    }

    /// The list of what `element` is for everything that passes.
    fn gather(&mut self, range: Expr, vars: Vars, filter: Option<Expr>, element: Expr) -> Expanded {
        let init = self.list(Vec::new())?;
        let accu = self.ident(ACCUMULATOR)?;
        let one = self.list(vec![element])?;
        let step = self.call("_+_", vec![accu, one])?;
        self.fold(range, vars, filter, init, step)
    }

    fn fold(
        &mut self,
        range: Expr,
        vars: Vars,
        filter: Option<Expr>,
        init: Expr,
        mut step: Expr,
    ) -> Expanded {
        let condition = self.literal(Literal::Bool(true))?;
        if let Some(filter) = filter {
            let same = self.ident(ACCUMULATOR)?;
            step = self.call("_?_:_", vec![filter, step, same])?;
        }
        let result = self.ident(ACCUMULATOR)?;
        self.comprehension(range, vars, init, (condition, step), result)
    }

    fn transform_map(
        &mut self,
        keep_key: bool,
        range: Expr,
        vars: Vars,
        filter: Option<Expr>,
        body: Expr,
    ) -> Expanded {
        let init = self.node(Kind::Map(Vec::<Entry>::new()))?;
        let accu = self.ident(ACCUMULATOR)?;
        let mut args = vec![accu];
        if keep_key {
            args.push(self.ident(&vars.0)?);
        }
        args.push(body);
        let step = self.call("cel.@mapInsert", args)?;
        self.fold(range, vars, filter, init, step)
    }

    fn opt_map(&mut self, flat: bool, target: Expr, args: &[Expr], body: Expr) -> Expanded {
        let Some(Kind::Ident(name)) = args.first().map(|arg| &arg.kind) else {
            let word = if flat { "optFlatMap()" } else { "optMap()" };
            let message = format!("{word} variable name must be a simple identifier");
            return Err(self.parser.fault(self.position, &message));
        };
        let name = name.clone();
        let asked = self.parser.node(
            self.position,
            Kind::Call {
                function: "hasValue".to_owned(),
                target: Some(Box::new(target.clone())),
                args: Vec::new(),
            },
        )?;
        // The target is evaluated once for each of its two uses, as its cost says.
        let target = self.fresh(target)?;
        let value = self.node(Kind::Call {
            function: "value".to_owned(),
            target: Some(Box::new(target)),
            args: Vec::new(),
        })?;
        let bound = self.bind(name, value, body)?;
        let yes = if flat {
            bound
        } else {
            self.call("optional.of", vec![bound])?
        };
        let no = self.call("optional.none", Vec::new())?;
        self.call("_?_:_", vec![asked, yes, no])
    }

    /// A loop over nothing that names a value for its result.
    fn bind(&mut self, name: String, value: Expr, body: Expr) -> Expanded {
        let range = self.list(Vec::new())?;
        let condition = self.literal(Literal::Bool(false))?;
        let step = self.ident(&name)?;
        self.node(Kind::Comprehension(Box::new(Comprehension {
            range,
            var: "#unused".to_owned(),
            var2: None,
            accu: name,
            init: value,
            condition,
            step,
            result: body,
        })))
    }

    fn sort_by(&mut self, target: Expr, args: &[Expr], body: Expr) -> Expanded {
        let vars = self.vars(args)?;
        let name = "@__sortBy_input__";
        let listed = self.ident(name)?;
        let keys = self.gather(listed, vars, None, body)?;
        let input = self.ident(name)?;
        let sorted = self.node(Kind::Call {
            function: "@sortByAssociatedKeys".to_owned(),
            target: Some(Box::new(input)),
            args: vec![keys],
        })?;
        self.bind(name.to_owned(), target, sorted)
    }

    /// A copy with ids of its own.
    fn fresh(&mut self, mut expr: Expr) -> Expanded {
        self.renumber(&mut expr)?;
        Ok(expr)
    }

    fn renumber(&mut self, expr: &mut Expr) -> Result<(), Issues> {
        let position = self.parser.position_of(expr);
        expr.id = self.parser.new_id(position)?;
        match &mut expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => self.renumber(operand)?,
            Kind::Call { target, args, .. } => {
                for part in target.iter_mut().map(|target| &mut **target).chain(args) {
                    self.renumber(part)?;
                }
            }
            Kind::List(elements) => {
                for element in elements {
                    self.renumber(&mut element.value)?;
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    self.renumber(&mut entry.key)?;
                    self.renumber(&mut entry.value)?;
                }
            }
            Kind::Struct { fields, .. } => {
                for field in fields {
                    field.id = self.parser.new_id(position)?;
                    self.renumber(&mut field.value)?;
                }
            }
            Kind::Comprehension(loops) => {
                for part in [
                    &mut loops.range,
                    &mut loops.init,
                    &mut loops.condition,
                    &mut loops.step,
                    &mut loops.result,
                ] {
                    self.renumber(part)?;
                }
            }
        }
        Ok(())
    }
}
