//! Objects and lists: each verb in the forms that clients take.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::body::{self, RequestBody};
use super::{Admitted, logs, tokens, watch};
use crate::answer::{self, Body};
use crate::failure::{Cause, Failure};
use crate::negotiation::{self, Form};
use crate::object;
use crate::objects::{DeleteOptions, Deleted, Patch, Scope, check_kind};
use crate::patch::PatchType;
use crate::request::ResourcePath;
use crate::resources::{Behaviour, Resource, Subresource};
use crate::reviews::{self, Review};
use crate::selectors::Selector;
use crate::table::{self, IncludeObject};

/// Answers a request at a resource's path.
pub(super) async fn answer(
    request: &Admitted<'_>,
    path: &ResourcePath,
    body: &mut RequestBody,
) -> Result<Response<Body>, Failure> {
    let resource = find(request, path)?;
    let part = match path.subresource.as_str() {
        "" => None,
        name => Some(
            Subresource::named(name)
                .filter(|part| resource.has(*part))
                .ok_or_else(Failure::unknown_path)?,
        ),
    };
    let at = At {
        request,
        resource: &resource,
        path,
        part,
    };
    if request.head.method == Method::HEAD {
        return Err(Failure::method_not_allowed());
    }
    let verb = request.info.verb.as_str();
    match (resource.behaviour, part) {
        (Behaviour::Review(_), _) if !path.name.is_empty() => Err(Failure::unknown_path()),
        (Behaviour::Review(review), None) if verb == "create" => at.review(review, body).await,
        (Behaviour::Review(_), _) => Err(Failure::method_not_allowed()),
        (_, Some(Subresource::Token)) if verb == "create" => {
            tokens::create(request, path, body).await
        }
        (_, Some(Subresource::Log)) if verb == "get" => logs::answer(request, path),
        (_, Some(Subresource::Exec | Subresource::Attach | Subresource::PortForward)) => {
            Err(at.not_executed())
        }
        (_, Some(Subresource::Token | Subresource::Log)) => Err(Failure::method_not_allowed()),
        (Behaviour::Stored, Some(_)) => match verb {
            "get" => at.get(),
            "update" => at.update(body).await,
            "patch" => at.patch(body).await,
            _ => Err(Failure::method_not_allowed()),
        },
        (Behaviour::Stored, None) => match verb {
            "get" => at.get(),
            "list" => at.list(),
            "watch" => watch::answer(request, &resource, path),
            "create" if path.name.is_empty() => at.create(body).await,
            "update" if !path.name.is_empty() => at.update(body).await,
            "patch" if !path.name.is_empty() => at.patch(body).await,
            "delete" => at.delete(body).await,
            "deletecollection" => at.delete_collection(body).await,
            _ => Err(Failure::method_not_allowed()),
        },
    }
}

/// The kind at a path, if the path fits it.
fn find(request: &Admitted<'_>, path: &ResourcePath) -> Result<Arc<Resource>, Failure> {
    let cluster = request.cluster;
    let resource = cluster
        .store
        .read(|view| {
            cluster
                .registry
                .find(view, &path.group, &path.version, &path.resource)
        })
        .filter(|_| !path.too_deep)
        .ok_or_else(Failure::unknown_path)?;
    let of_all_namespaces = path.namespace.is_empty();
    let is_namespace = path.group.is_empty() && path.resource == "namespaces";
    if resource.namespaced {
        match request.info.verb.as_str() {
            "list" | "watch" => Ok(resource),
            _ if !of_all_namespaces => Ok(resource),
            _ if path.name.is_empty() => Err(Failure::method_not_allowed()),
            _ => Err(Failure::unknown_path()),
        }
    } else if of_all_namespaces || is_namespace {
        Ok(resource)
    } else {
        Err(Failure::unknown_path())
    }
}

/// A request at a kind, a place, and perhaps a part.
struct At<'a> {
    request: &'a Admitted<'a>,
    resource: &'a Resource,
    path: &'a ResourcePath,
    part: Option<Subresource>,
}

impl At<'_> {
    fn scope(&self) -> Scope<'_> {
        Scope {
            resource: self.resource,
            namespace: self.namespace(),
            user: &self.request.user,
            part: self.part,
        }
    }

    /// Empty for kinds of the cluster, also for a namespace itself.
    fn namespace(&self) -> &str {
        if self.resource.namespaced {
            &self.path.namespace
        } else {
            ""
        }
    }

    fn found(&self) -> Result<Arc<Value>, Failure> {
        let name = &self.path.name;
        self.request
            .cluster
            .store
            .get(&self.resource.shelf, self.namespace(), name)
            .ok_or_else(|| Failure::not_found(&self.resource.subject(name)))
    }

    fn get(&self) -> Result<Response<Body>, Failure> {
        self.one(StatusCode::OK, &self.found()?)
    }

    fn list(&self) -> Result<Response<Body>, Failure> {
        let query = self.request.query;
        let selector = self.selector()?;
        query.number("limit")?;
        let within = Some(self.namespace()).filter(|it| !it.is_empty());
        let (objects, version) = self.request.cluster.store.read(|view| {
            let mut objects = view.list(&self.resource.shelf, within);
            objects.retain(|object| selector.matches(object));
            (objects, view.version())
        });
        check_version(
            query.get("resourceVersion"),
            query.get("resourceVersionMatch"),
            version,
        )?;
        let version = version.to_string();
        let document = match negotiation::form(&self.request.head.headers)? {
            Form::Table => table::table(self.resource, &objects, &version, self.include()?, true),
            form => list_of(self.resource, &objects, &version, form),
        };
        Ok(answer::json(StatusCode::OK, &document, self.request.style))
    }

    async fn create(&self, body: &mut RequestBody) -> Result<Response<Body>, Failure> {
        let dry_run = self.request.query.dry_run("CreateOptions")?;
        let object = body.object(&self.request.head.headers).await?;
        let cluster = self.request.cluster;
        let made = cluster.store.write(dry_run, |state| {
            cluster.objects.create(state, self.scope(), object)
        })?;
        self.one(StatusCode::CREATED, &made)
    }

    async fn update(&self, body: &mut RequestBody) -> Result<Response<Body>, Failure> {
        let dry_run = self.request.query.dry_run("UpdateOptions")?;
        let object = body.object(&self.request.head.headers).await?;
        let cluster = self.request.cluster;
        let (updated, created) = cluster.store.write(dry_run, |state| {
            cluster
                .objects
                .update(state, self.scope(), &self.path.name, object)
        })?;
        self.one(made_or_changed(created), &updated)
    }

    async fn patch(&self, body: &mut RequestBody) -> Result<Response<Body>, Failure> {
        let query = self.request.query;
        let dry_run = query.dry_run("PatchOptions")?;
        let content_type = negotiation::content_type(&self.request.head.headers);
        let kind = PatchType::of(&content_type, self.resource)?;
        let document = body::parse(&content_type, &body.bytes().await?)?;
        let patch = Patch {
            kind,
            document: &document,
            manager: query.get("fieldManager"),
            force: query.is_set("force"),
        };
        let cluster = self.request.cluster;
        let (patched, created) = cluster.store.write(dry_run, |state| {
            cluster
                .objects
                .patch(state, self.scope(), &self.path.name, patch)
        })?;
        self.one(made_or_changed(created), &patched)
    }

    async fn delete(&self, body: &mut RequestBody) -> Result<Response<Body>, Failure> {
        let options = self.delete_options(body).await?;
        let cluster = self.request.cluster;
        let deleted = cluster.store.write(options.dry_run, |state| {
            cluster
                .objects
                .delete(state, self.scope(), &self.path.name, &options)
        })?;
        match deleted {
            Deleted::Marked(object) => self.one(StatusCode::OK, &object),
            Deleted::Gone(object) => {
                let mut details = json!({
                    "name": object::name(&object),
                    "kind": self.resource.plural,
                    "uid": object::uid(&object),
                });
                if !self.resource.group.is_empty() {
                    details["group"] = self.resource.group.as_str().into();
                }
                let status = json!({
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Success",
                    "details": details,
                });
                Ok(answer::json(StatusCode::OK, &status, self.request.style))
            }
        }
    }

    async fn delete_collection(&self, body: &mut RequestBody) -> Result<Response<Body>, Failure> {
        let options = self.delete_options(body).await?;
        let selector = self.selector()?;
        let cluster = self.request.cluster;
        let (deleted, version) = cluster.store.write(options.dry_run, |state| {
            let deleted =
                cluster
                    .objects
                    .delete_collection(state, self.scope(), &selector, &options);
            Ok((deleted, state.version()))
        })?;
        let version = version.to_string();
        let document = list_of(self.resource, &deleted, &version, Form::Plain);
        Ok(answer::json(StatusCode::OK, &document, self.request.style))
    }

    async fn review(
        &self,
        review: Review,
        body: &mut RequestBody,
    ) -> Result<Response<Body>, Failure> {
        self.request.query.dry_run("CreateOptions")?;
        let mut question = body.object(&self.request.head.headers).await?;
        check_kind(self.resource, &mut question)?;
        object::metadata_mut(&mut question);
        let cluster = self.request.cluster;
        let answered = cluster.store.read(|view| {
            reviews::answer(
                view,
                &cluster.authenticator,
                self.resource,
                review,
                &self.request.user,
                self.namespace(),
                question,
            )
        })?;
        Ok(answer::json(
            StatusCode::CREATED,
            &answered,
            self.request.style,
        ))
    }

    async fn delete_options(&self, body: &mut RequestBody) -> Result<DeleteOptions, Failure> {
        let options = body.options(&self.request.head.headers).await?;
        DeleteOptions::parse(self.request.query, &options)
    }

    fn selector(&self) -> Result<Selector, Failure> {
        let query = self.request.query;
        Selector::parse(
            self.resource,
            query.optional("labelSelector"),
            query.optional("fieldSelector"),
        )
    }

    fn include(&self) -> Result<IncludeObject, Failure> {
        include_object(self.request)
    }

    fn one(&self, code: StatusCode, object: &Arc<Value>) -> Result<Response<Body>, Failure> {
        let document = match negotiation::form(&self.request.head.headers)? {
            Form::Plain => present(self.resource, object),
            Form::Partial => table::partial(object),
            Form::Table => table::single(self.resource, object, self.include()?, true),
        };
        Ok(answer::json(code, &document, self.request.style))
    }

    fn not_executed(&self) -> Failure {
        if let Err(missing) = self.found() {
            return missing;
        }
        Failure::not_implemented(format!(
            "embedded clusters do not run programs: pods/{} has nothing to connect to",
            self.path.subresource
        ))
    }
}

/// An object as its version is served. Versions of a custom kind differ in nothing else.
pub(super) fn present(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    if resource.custom {
        object["apiVersion"] = resource.api_version().into();
    }
    object
}

pub(super) fn include_object(request: &Admitted<'_>) -> Result<IncludeObject, Failure> {
    let text = request.query.get("includeObject");
    IncludeObject::parse(text).ok_or_else(|| {
        Failure::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {text:?}"
        ))
    })
}

/// Items of built-in kinds do not repeat what the list says they are.
fn list_of(resource: &Resource, objects: &[Arc<Value>], version: &str, form: Form) -> Value {
    let items: Vec<_> = objects
        .iter()
        .map(|object| match form {
            Form::Partial => table::partial(object),
            _ if resource.custom => present(resource, object),
            _ => {
                let mut item = Value::clone(object);
                if let Some(map) = item.as_object_mut() {
                    map.remove("apiVersion");
                    map.remove("kind");
                }
                item
            }
        })
        .collect();
    let (kind, api_version) = match form {
        Form::Partial => (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        ),
        Form::Plain | Form::Table => (format!("{}List", resource.kind), resource.api_version()),
    };
    json!({
        "kind": kind,
        "apiVersion": api_version,
        "metadata": {"resourceVersion": version},
        "items": items,
    })
}

/// A list is always of the newest version; an older one cannot be had, a newer one does not exist.
fn check_version(wanted: &str, matching: &str, newest: u64) -> Result<(), Failure> {
    if wanted.is_empty() {
        return if matching.is_empty() {
            Ok(())
        } else {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            let cause = Cause::forbidden("resourceVersionMatch", why);
            Err(Failure::invalid_options("ListOptions", cause))
        };
    }
    let wanted: u64 = wanted
        .parse()
        .map_err(|_| Failure::bad_request(format!("resourceVersion: Invalid value: {wanted:?}")))?;
    if wanted > newest {
        return Err(Failure::version_too_large(wanted, newest));
    }
    if matching == "Exact" && wanted < newest {
        return Err(Failure::list_expired());
    }
    Ok(())
}

fn made_or_changed(created: bool) -> StatusCode {
    if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    }
}
