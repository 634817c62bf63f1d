//! Macros, put in the place of their names. A macro that is used often is shared, not copied.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::condition::{Expr, Pos};
use crate::graph::MAX_DEPTH;

/// A macro's condition, and how deep it is nested; 0 as long as it is not resolved.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) expr: Arc<Expr>,
    pub(crate) depth: u32,
}

/// What came of resolving.
pub(crate) struct Resolution {
    pub(crate) expr: Arc<Expr>,
    pub(crate) depth: u32,
    /// The macros that are used.
    pub(crate) used: BTreeSet<String>,
}

/// Resolves the macros of a condition; `find` gives those that are visible.
pub(crate) fn resolve(
    expr: &Arc<Expr>,
    find: &dyn Fn(&str) -> Option<Resolved>,
) -> Result<Resolution, (String, Pos)> {
    let mut resolver = Resolver {
        find,
        done: HashMap::new(),
        path: Vec::new(),
        used: BTreeSet::new(),
    };
    let resolved = resolver.expr(expr)?;
    Ok(Resolution {
        expr: resolved.expr,
        depth: resolved.depth,
        used: resolver.used,
    })
}

struct Resolver<'a> {
    find: &'a dyn Fn(&str) -> Option<Resolved>,
    done: HashMap<*const Expr, Resolved>,
    path: Vec<String>,
    used: BTreeSet<String>,
}

impl Resolver<'_> {
    fn expr(&mut self, expr: &Arc<Expr>) -> Result<Resolved, (String, Pos)> {
        // What holds no macro stays as it is; what was seen is known.
        if let Some(done) = self.done.get(&Arc::as_ptr(expr)) {
            return Ok(done.clone());
        }
        let resolved = match &**expr {
            Expr::And(children, pos) | Expr::Or(children, pos) => {
                let resolved = children.iter().map(|child| self.expr(child));
                let resolved = resolved.collect::<Result<Vec<_>, _>>()?;
                let depth = resolved.iter().map(|child| child.depth).max().unwrap_or(0) + 1;
                let same = resolved
                    .iter()
                    .zip(children)
                    .all(|(new, old)| Arc::ptr_eq(&new.expr, old));
                let new = resolved.into_iter().map(|child| child.expr).collect();
                let expr = match &**expr {
                    _ if same => expr.clone(),
                    Expr::And(..) => Arc::new(Expr::And(new, *pos)),
                    _ => Arc::new(Expr::Or(new, *pos)),
                };
                Resolved { expr, depth }
            }
            Expr::Not(child, pos) => {
                let resolved = self.expr(child)?;
                let depth = resolved.depth + 1;
                let expr = if Arc::ptr_eq(&resolved.expr, child) {
                    expr.clone()
                } else {
                    Arc::new(Expr::Not(resolved.expr, *pos))
                };
                Resolved { expr, depth }
            }
            Expr::Macro(name, pos) => self.named(name, *pos)?,
            Expr::Exists(..) | Expr::Check { .. } => Resolved {
                expr: expr.clone(),
                depth: 1,
            },
        };
        if resolved.depth > MAX_DEPTH {
            let message = format!("exceeded max depth limit of {MAX_DEPTH}");
            return Err((message, expr.pos()));
        }
        self.done.insert(Arc::as_ptr(expr), resolved.clone());
        Ok(resolved)
    }

    fn named(&mut self, name: &str, pos: Pos) -> Result<Resolved, (String, Pos)> {
        let Some(found) = (self.find)(name) else {
            return Err((format!("Undefined macro '{name}' used in filter."), pos));
        };
        if self.path.iter().any(|outer| outer == name) {
            return Err((format!("reference loop in macro '{name}'"), pos));
        }
        if found.depth > 0 {
            self.used.insert(name.to_owned());
            return Ok(found);
        }
        if self.path.len() > MAX_DEPTH as usize / 4 {
            return Err((format!("exceeded max depth limit of {MAX_DEPTH}"), pos));
        }
        self.path.push(name.to_owned());
        let resolved = self.expr(&found.expr);
        self.path.pop();
        self.used.insert(name.to_owned());
        resolved
    }
}
