"""Manifests: the text of YAML or JSON files → resources that may be trusted, or every reason why not.

    bytes → documents (plain values with lines) → objects (`kind: List` taken apart) → our spelling → resources

Read are `netloom.io/v1`, Calico's `projectcalico.org/v3` (model.calico), core `v1` Namespace, and Flannel's net-conf.json, alone or in
its ConfigMap (model.flannel).  What an API
server adds to an object (uid, resourceVersion, managedFields, status...) is dropped, because people apply what they exported.
Everything else is strict: a field that is not known is an error with file, line and path.  One object's error does not hide
another's: `read` returns all of them.
What one resource cannot know alone, whether it fits to the others, is asked by model.admission.
"""

from __future__ import annotations

import base64
import difflib
import enum
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from netloom.errors import ConfigError
from netloom.model import calico, documents, flannel
from netloom.model.documents import Document, FieldPath
from netloom.model.resources import API_VERSION, KINDS, AnyResource, convert
from netloom.model.showing import shown

_MAX_ERRORS = 50

# What an API server or kubectl writes into every object, and nobody means.
_SERVER_METADATA = frozenset(("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"))
_SERVER_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Item:
    """A resource, and where it was written."""

    resource: AnyResource
    file: str
    document: Document

    def where(self, path: str = "") -> str:
        """`file:line` of a field, or of what should hold it."""
        return f"{self.file}:{self.document.line(_parts(path))}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a set of files says.  With `errors`, nothing of it should be applied."""

    items: tuple[Item, ...] = ()
    errors: tuple[ConfigError, ...] = ()


def read(files: Iterable[tuple[str, bytes]]) -> Manifest:
    """`files`: pairs of name and content."""
    items: dict[tuple[str, str], Item] = {}
    errors: list[ConfigError] = []
    for file, data in files:
        for found in _read_file(file, data):
            if isinstance(found, ConfigError):
                errors.append(found)
                continue
            key = (found.resource.kind, found.resource.key)
            first = items.setdefault(key, found)
            if first is not found:
                errors.append(ConfigError(f"{' '.join(key)} is already in {first.where()}", where=found.where("metadata.name")))
    return Manifest(tuple(items.values()), tuple(errors[:_MAX_ERRORS]))


def _read_file(file: str, data: bytes) -> Iterator[Item | ConfigError]:
    try:
        for document in documents.read(data, file):
            for part in _objects(document):
                try:
                    yield from (Item(resource, file, part) for resource in _resources(part))
                except _Wrong as e:
                    yield from (e.located(file, part) for e in e.all)
    except ConfigError as e:
        yield e


def _objects(document: Document) -> Iterator[Document]:
    """The document, or what a list of Kubernetes' or Calico's in it holds, or Flannel's configuration in its ConfigMap."""
    value = document.value
    if isinstance(value, dict) and value.get("kind") == "ConfigMap" and isinstance(value.get("data"), dict):
        text = value["data"].get(flannel.FILE)
        if isinstance(text, str):
            place = documents.read(text.encode(), f"{flannel.FILE} in a ConfigMap")
            yield from (document.within(("data", flannel.FILE), inner.value) for inner in place)
            return
    if isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        kind = str(value["kind"]).removesuffix("List")
        shared = {"apiVersion": value.get("apiVersion"), "kind": kind} if kind else {}
        for i, item in enumerate(value["items"]):
            yield document.within(("items", i), {**shared, **item} if isinstance(item, dict) else item)
    else:
        yield document


class _Wrong(Exception):
    """A field is wrong; where that is in the file is not known yet.  `others`: further fields that are."""

    def __init__(self, path: str, message: str, hint: str | None = None, others: tuple[_Wrong, ...] = ()) -> None:
        super().__init__(message)
        self.path, self.message, self.hint, self.all = path, message, hint, (self, *others)

    def located(self, file: str, document: Document) -> ConfigError:
        where = f"{file}:{document.line(_parts(self.path))}"
        return ConfigError(self.message, where=where, path=self.path or None, hint=self.hint)


# One object: whose spelling, and then ours.

Object = dict[str, typing.Any]  # Any: a plain value that is not checked yet


def _resources(document: Document) -> Iterator[AnyResource]:
    if isinstance(document.value, dict) and flannel.is_one(document.value):
        yield from _of_flannel(document.value)
    else:
        yield _resource(document)


def _of_flannel(value: Object) -> Iterator[AnyResource]:
    parts, refused = flannel.translate(value)
    if refused:
        first, *others = (_Wrong(r.path, str(r)) for r in refused)
        raise _Wrong(first.path, first.message, others=tuple(others))
    for part in parts:
        try:
            yield _decoded(str(part.value["kind"]), part.value)
        except _Wrong as e:
            raise _Wrong(part.paths.get(e.path, e.path), e.message, e.hint) from e


def _resource(document: Document) -> AnyResource:
    value = document.value
    if not isinstance(value, dict):
        raise _Wrong("", f"a manifest is a mapping of fields, not {_WORDS.get(type(value).__name__, 'this')}")
    for name in ("apiVersion", "kind"):
        if not isinstance(value.get(name), str):
            raise _Wrong(
                name, "is missing" if name not in value else "expected text", f"start with `apiVersion: {API_VERSION}`"
            )
    spelling = _SPELLINGS.get(value["apiVersion"])
    if spelling is None:
        known = ", ".join(_SPELLINGS)
        raise _Wrong("apiVersion", f"{shown(value['apiVersion'])} is not read", f"versions that are read: {known}")
    return _decoded(value["kind"], spelling(value["kind"], _without_server_fields(value)))


def _decoded(kind: str, ours: Object) -> AnyResource:
    try:
        return convert(ours)
    except msgspec.ValidationError as e:
        raise _explain(KINDS[kind], str(e), ours) from e


def _without_server_fields(value: Object) -> Object:
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return value
    kept = {name: field for name, field in metadata.items() if name not in _SERVER_METADATA}
    if isinstance(kept.get("annotations"), dict):
        kept["annotations"] = {k: v for k, v in kept["annotations"].items() if k != _SERVER_ANNOTATION}
    return {**value, "metadata": kept}


def _ours(kind: str, value: Object) -> Object:
    _one_of(kind, KINDS)
    return value


def _calico(kind: str, value: Object) -> Object:
    _one_of(kind, calico.KINDS)
    spec = value.get("spec", {})
    if not isinstance(spec, dict):
        raise _Wrong("spec", "expected a mapping of fields")
    ours, refused = calico.translate(kind, spec)
    if refused:
        first, *others = (_Wrong(f"spec.{r.field}", str(r)) for r in refused)
        raise _Wrong(first.path, first.message, others=tuple(others))
    return {**_without(value, "status"), "apiVersion": API_VERSION, "spec": ours}


def _core(kind: str, value: Object) -> Object:
    _one_of(kind, ("Namespace", "Secret"))
    if kind == "Secret":
        return _secret(value)
    return {**_without(value, "spec", "status"), "apiVersion": API_VERSION}


def _secret(value: Object) -> Object:
    """Whatever namespace it is in: a peer's password has a name and a key, and no namespace."""
    plain, data, metadata = value.get("stringData") or {}, value.get("data") or {}, value.get("metadata")
    if not isinstance(plain, dict) or not isinstance(data, dict):
        raise _Wrong("data" if isinstance(plain, dict) else "stringData", "expected a mapping of fields")
    if wrong := next((key for key, text in plain.items() if not isinstance(text, str)), None):
        raise _Wrong(f"stringData[{wrong}]", "expected text; put it into quotes")
    coded = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
    if isinstance(metadata, dict):
        metadata = _without(metadata, "namespace", "ownerReferences")
    return {
        **_without(value, "stringData", "immutable"),
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "data": {**data, **coded},
    }


_SPELLINGS: Mapping[str, Callable[[str, Object], Object]] = {
    API_VERSION: _ours,
    calico.API_VERSION: _calico,
    "v1": _core,
}


def _without(value: Object, *names: str) -> Object:
    return {name: field for name, field in value.items() if name not in names}


def _one_of(kind: str, known: Iterable[str]) -> None:
    if kind not in known:
        raise _Wrong("kind", f"{shown(kind)} is not known here{_did_you_mean(kind, known)}", f"kinds: {', '.join(known)}")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, tuple(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


# msgspec's reasons in a user's words.

_AT = re.compile(r"(?P<message>.*?)(?: - at (?:`key` in )?`\$(?P<path>[^`]*)`)?\Z", re.DOTALL)
_OWN_PATH = re.compile(r"(?P<path>(?:spec|metadata)(?:\.\w+|\[[^\]]*\])+): (?P<message>.*)\Z", re.DOTALL)
_TYPES = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`\Z")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`\Z", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`\Z")
_ENUM = re.compile(r"Invalid enum value (?P<value>.*)\Z", re.DOTALL)
_WORDS: Mapping[str, str] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "object": "a mapping of fields",
    "dict": "a mapping of fields",
    "array": "a list",
    "list": "a list",
    "null": "nothing",
}


def _explain(kind: type[msgspec.Struct], text: str, value: Object) -> _Wrong:
    outer = _AT.match(text)
    assert outer is not None  # the pattern matches every text
    path, message = (outer["path"] or "").lstrip("."), outer["message"]
    if path.endswith("[...]"):
        path = _entry(path.removesuffix("[...]"), value)
    if own := _OWN_PATH.match(message):
        return _Wrong(own["path"], own["message"])
    if types_ := _TYPES.match(message):
        wanted = " or ".join(_WORDS.get(word, word) for word in types_["wanted"].split(" | "))
        return _Wrong(path, f"expected {wanted}, got {_WORDS.get(types_['got'], types_['got'])}")
    if unknown := _UNKNOWN.match(message):
        field, known = unknown["field"], _fields(_type_at(kind, path))
        return _Wrong(_join(path, field), f"there is no such field{_did_you_mean(field, known)}", f"fields: {', '.join(known)}")
    if missing := _MISSING.match(message):
        return _Wrong(_join(path, missing["field"]), "is missing")
    if invalid := _ENUM.match(message):
        return _Wrong(path, f"{invalid['value']} is none of {', '.join(_choices(_type_at(kind, path)))}")
    return _Wrong(path, message)


def _entry(path: str, value: typing.Any) -> str:  # Any: a plain value
    """msgspec does not tell which entry of a mapping of texts is wrong: the first that is no text."""
    for part in _parts(path):
        value = value[part]
    key = next((key for key, entry in value.items() if not isinstance(entry, str)), "")
    return f"{path}[{key}]"


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _type_at(kind: type, path: str) -> type:
    """The declared type of the field at a path, without `| None` and `tuple[...]` around it."""
    here: type = kind
    for part in _parts(path):
        if isinstance(part, str) and issubclass(here, msgspec.Struct):
            here = next((_plain(f.type) for f in msgspec.structs.fields(here) if f.encode_name == part), here)
    return here


def _plain(declared: typing.Any) -> type:  # Any: a type expression
    if typing.get_origin(declared) in (types.UnionType, typing.Union, tuple):
        declared = typing.get_args(declared)[0]
    return typing.cast("type", declared)


def _fields(struct: type) -> tuple[str, ...]:
    names = [f.encode_name for f in msgspec.structs.fields(struct)]
    return (*names, "kind") if "api_version" in struct.__annotations__ else tuple(names)


def _choices(declared: typing.Any) -> tuple[str, ...]:  # Any: a type expression
    if isinstance(declared, type) and issubclass(declared, enum.Enum):
        return tuple(str(member.value) for member in declared)
    return tuple(str(choice) for choice in typing.get_args(declared))


_PART = re.compile(r"\[(?P<index>[^\]]*)\]|(?P<name>[^.\[\]]+)")


def _parts(path: str) -> FieldPath:
    """`spec.claims[0].cidr` → ("spec", "claims", 0, "cidr"); a label is `labels[key]`."""
    return tuple(_index(part["index"]) if part["name"] is None else part["name"] for part in _PART.finditer(path))


def _index(text: str) -> str | int:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text
