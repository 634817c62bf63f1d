//! What expressions see of a kind whose schema is known: for the check of types alone, which tells the
//! writer of a policy what will not work.
//!
//! Invariant: a type of the table is declared once, so that what is made is no larger than the table,
//! and one that contains itself ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::resource::ResourceRef;
use api::schema::{self, Shape as Held, TypeRef};
use cel::{Decl, FieldDecl, ListKind, Shape, escape};

use crate::rules;

/// The declaration of a resource's objects.
pub(super) fn of(resource: &ResourceRef) -> Option<Arc<Decl>> {
    let mut table = Table::default();
    match resource.schema.custom() {
        None => table.object(resource.schema.table()?),
        Some(custom) => {
            let own = rules::decl(custom.schema(), true)?;
            let Shape::Object(name, fields) = &own.shape else {
                return None;
            };
            // Rules see two fields of metadata, policies all of it.
            let mut fields = fields.clone();
            let metadata = schema::type_by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
            if let Some(decl) = metadata.and_then(|metadata| table.object(metadata)) {
                let name = "metadata".to_owned();
                fields.insert(name.clone(), FieldDecl { name, decl });
            }
            Some(Arc::new(Decl::new(Shape::Object(name.clone(), fields))))
        }
    }
}

/// The types that are declared, or being declared.
#[derive(Default)]
struct Table(HashMap<TypeRef, Option<Arc<Decl>>>);

impl Table {
    fn object(&mut self, ty: TypeRef) -> Option<Arc<Decl>> {
        if let Some(known) = self.0.get(&ty) {
            return known.clone();
        }
        // As long as it is being declared it is not known, which ends the circle.
        self.0.insert(ty, None);
        let of = ty.get();
        let mut fields = BTreeMap::new();
        for field in of.fields {
            if let (Some(escaped), Some(decl)) = (escape(field.name), self.held(&field.shape)) {
                let name = field.name.to_owned();
                fields.insert(escaped, FieldDecl { name, decl });
            }
        }
        let decl = Arc::new(Decl::new(Shape::Object(of.name.into(), fields)));
        self.0.insert(ty, Some(decl.clone()));
        Some(decl)
    }

    /// What upstream's schemas leave without a type (quantities, any JSON) is no field.
    fn held(&mut self, held: &Held) -> Option<Arc<Decl>> {
        let shape = match held {
            Held::String => Shape::String,
            Held::Bytes => Shape::Bytes,
            Held::Bool => Shape::Bool,
            Held::Int32 | Held::Int64 => Shape::Int,
            Held::Double => Shape::Double,
            Held::Time | Held::MicroTime => Shape::Timestamp,
            Held::IntOrString => Shape::Dyn,
            Held::Quantity | Held::Any(_) => return None,
            Held::Object(ty) => return self.object(*ty),
            Held::List(item) => Shape::List(self.held(item)?, ListKind::Atomic),
            Held::Map(value) => Shape::Map(self.held(value)?),
        };
        Some(Arc::new(Decl::new(shape)))
    }
}
