"""Models as OCI artifacts: configs of three formats, roles of layers, and the config that we write."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import Malformed
from qwenctl.model import artifact
from qwenctl.model.artifact import (
    CONFIG_CNCF,
    CONFIG_V01,
    CONFIG_V02,
    ModelArtifact,
    ModelConfig,
    Role,
    describe,
    layer_path,
    parse_artifact,
)
from qwenctl.model.gguf import read_header
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import build_manifest
from tests.model.gguf_builders import TINY_METADATA, TINY_TENSORS, Metadata, Typed, gguf_header

DOCKER = "application/vnd.docker.ai."
CNCF = "application/vnd.cncf.model."
CREATED = datetime(2025, 3, 24, 11, 49, 41, tzinfo=UTC)

DOCKER_CONFIG = {
    "config": {
        "format": "gguf",
        "quantization": "MOSTLY_Q4_K_M",
        "parameters": "7.62 B",
        "architecture": "qwen2",
        "size": "4.36GiB",
        "gguf": {"general.name": "Qwen2.5", "qwen2.context_length": "32768"},
        "context_size": 8192,
    },
    "descriptor": {"created": "2025-03-24T11:49:41Z"},
    "rootfs": {"type": "rootfs", "diff_ids": []},
}
CNCF_CONFIG = {
    "descriptor": {"createdAt": "2025-03-24T11:49:41Z", "name": "qwen2.5", "licenses": ["Apache-2.0"]},
    "modelfs": {"type": "layers", "diffIds": []},
    "config": {"architecture": "qwen2", "format": "gguf", "paramSize": "8b", "quantization": "Q8_0"},
}


def layer(media_type: str, path: str | None = None, content: bytes = b"x") -> Descriptor:
    """A layer with a path annotation."""
    found = Descriptor.of(content, media_type)
    return found if path is None else found.annotate(**{artifact.FILE_PATH: path})


def parse(config: object = DOCKER_CONFIG, *layers: Descriptor, kind: str = CONFIG_V01) -> ModelArtifact:
    """The artifact with this config, as JSON or as bytes, and these layers."""
    raw = config if isinstance(config, bytes) else json.dumps(config).encode()
    return parse_artifact(build_manifest(Descriptor.of(raw, kind), layers), raw)


def docker(**fields: Any) -> ModelConfig:
    """The config of Docker's format with these fields alone."""
    return parse({"config": fields}).config


class TestDockerConfig:
    """docker/model-runner, pkg/distribution/types/config.go."""

    @pytest.mark.parametrize("kind", [CONFIG_V01, CONFIG_V02])
    def test_both_versions_are_read(self, kind: str) -> None:
        """Version 0.2 differs in its layers only."""
        assert parse(kind=kind).config == ModelConfig(
            format="gguf",
            quantization="Q4_K_M",
            parameters="7.62 B",
            architecture="qwen2",
            context_size=8192,
            created=CREATED,
            gguf={"general.name": "Qwen2.5", "qwen2.context_length": "32768"},
        )

    def test_the_drafts_fields_are_read(self) -> None:
        """The draft specification writes `createdAt` and `files`, and fields that we do not know."""
        document = {
            "config": {"format": "gguf", "format_version": "3"},
            "descriptor": {"createdAt": "2025-03-24T11:49:41Z"},
            "files": [{"diffID": "sha256:00", "type": "application/vnd.docker.ai.gguf.v3"}],
            "more": {},
        }
        config = parse(document).config
        assert (config.format, config.created) == ("gguf", CREATED)

    def test_an_empty_config_says_nothing(self) -> None:
        """Every field may be left out."""
        assert parse({}).config == ModelConfig()

    @pytest.mark.parametrize("value", [7, None, True, ["Q4_K_M"], {}])
    def test_a_field_of_another_type_says_nothing(self, value: object) -> None:
        """A model can be run without what its config says, so a wrong field is no error."""
        assert docker(quantization=value, context_size=[], gguf=7) == ModelConfig()
        assert docker(gguf={"key": value}).gguf == {}

    @pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"config": 1}'])
    def test_a_damaged_config_is_refused(self, raw: bytes) -> None:
        """A config that is no JSON object, or whose sections are none, is malformed."""
        with pytest.raises(Malformed, match="model config"):
            parse(raw)

    def test_a_config_has_an_end(self) -> None:
        """More than some MiB is no config."""
        with pytest.raises(Malformed, match="over the limit"):
            parse(b" " * (artifact.CONFIG_LIMIT + 1))

    def test_an_unknown_quantization_is_shown_as_it_is(self) -> None:
        """Names that we do not know may still mean something to a person."""
        assert docker(quantization="awq").quantization == "awq"

    def test_text_of_a_stranger_is_fit_for_a_terminal(self) -> None:
        """Escapes, line breaks and halves of characters are replaced; length is limited."""
        assert docker(architecture="a\x1b[31m\n\ud800").architecture == "a\ufffd[31m\ufffd\ufffd"
        assert len(docker(parameters="9" * 1000).parameters) == 200
        assert docker(gguf={"k\n": "a\nb\x07"}).gguf == {"k\ufffd": "a\nb\ufffd"}


class TestContextLength:
    """Tokens: what the config says, else what its copy of the metadata says."""

    @pytest.mark.parametrize("value", [0, -1, 2**31, True, 4096.0, "4096"])
    def test_an_impossible_context_size_is_none(self, value: object) -> None:
        """`context_size` is a positive int32."""
        assert docker(context_size=value).context_length is None

    def test_the_context_size_counts_first(self) -> None:
        """`context_size` stands before the metadata."""
        assert parse().config.context_length == 8192

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("32768", 32768), ("0", None), ("-1", None), ("2147483648", None), ("9" * 5000, None), ("٣", None)],
    )
    def test_the_metadata_of_any_architecture_counts_else(self, text: str, expected: int | None) -> None:
        """`<architecture>.context_length`, when it is a number that is possible."""
        config = docker(
            architecture="qwen3", gguf={"qwen3.context_length": text, "llama.context_length": "1"}
        )
        assert config.context_length == expected


class TestCreated:
    """RFC 3339, as Go writes it."""

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2025-03-24T11:49:41Z", CREATED),
            ("2025-03-24T13:49:41+02:00", CREATED),
            ("2025-03-24T11:49:41.123456789Z", CREATED.replace(microsecond=123456)),
            ("2025-03-24T11:49:41", CREATED),
            ("yesterday", None),
            ("2025-02-30T00:00:00Z", None),
            (1742816981, None),
        ],
    )
    def test_moments(self, text: object, moment: datetime | None) -> None:
        """A moment with its zone; without one it is UTC; anything else is none."""
        assert parse({"descriptor": {"created": text}}).config.created == moment


class TestRoles:
    """What each layer is for."""

    @pytest.mark.parametrize(
        ("kind", "role"),
        [
            ("gguf.v3", Role.WEIGHTS),
            ("safetensors", Role.SAFETENSORS),
            ("dduf", Role.DDUF),
            ("license", Role.LICENSE),
            ("mmproj", Role.PROJECTOR),
            ("gguf.v3.mmproj", Role.PROJECTOR),
            ("gguf.v3.lora", Role.ADAPTER),
            ("chat.template.jinja", Role.CHAT_TEMPLATE),
            ("model.file", Role.FILE),
            ("vllm.config.tar", Role.VLLM_CONFIG),
            ("dir.tar", Role.DIRECTORY),
            ("something.new", None),
        ],
    )
    def test_media_types_of_docker(self, kind: str, role: Role | None) -> None:
        """Every media type that Docker writes, or drafted, has its role."""
        found = layer(DOCKER + kind)
        assert parse(DOCKER_CONFIG, found).role(found) is role

    def test_weights_in_several_files_keep_their_order(self) -> None:
        """A split model has several layers of weights, in order, among others."""
        shards = [layer(f"{DOCKER}gguf.v3", content=bytes([number])) for number in (3, 1, 2)]
        model = parse(DOCKER_CONFIG, shards[0], layer(f"{DOCKER}license"), *shards[1:])
        assert model.layers(Role.WEIGHTS) == tuple(shards)
        assert model.layers(Role.PROJECTOR) == ()

    def test_files_of_a_split_are_ordered_by_their_names(self) -> None:
        """Whoever packed them; where one has no name, the manifest's order is all there is."""
        kind = f"{DOCKER}gguf.v3"
        last = layer(kind, "model-00002-of-00002.gguf", b"2")
        first = layer(kind, "model-00001-of-00002.gguf", b"1")
        nameless = layer(kind, None, b"3")
        assert parse(DOCKER_CONFIG, last, first).layers(Role.WEIGHTS) == (first, last)
        assert parse(DOCKER_CONFIG, last, first, nameless).layers(Role.WEIGHTS) == (last, first, nameless)

    def test_the_size_is_that_of_all_content(self) -> None:
        """Config and layers."""
        model = parse(DOCKER_CONFIG, layer(f"{DOCKER}gguf.v3", content=bytes(1000)))
        assert model.size_bytes == 1000 + len(json.dumps(DOCKER_CONFIG))

    @pytest.mark.parametrize(
        "kind",
        [
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.ai.model.config.v0.3+json",
            "application/vnd.oci.empty.v1+json",
        ],
    )
    def test_other_artifacts_are_no_models(self, kind: str) -> None:
        """A container image, or a format to come, is refused with its media type."""
        with pytest.raises(Malformed) as caught:
            parse({}, kind=kind)
        assert kind in caught.value.message
        assert caught.value.hint is not None


class TestModelPack:
    """modelpack/model-spec: raw layers are read, packed weights are refused."""

    def test_the_config_is_read(self) -> None:
        """`paramSize` and `createdAt` are its words; it has no context size."""
        config = parse(CNCF_CONFIG, kind=CONFIG_CNCF).config
        assert config == ModelConfig(
            format="gguf", quantization="Q8_0", parameters="8b", architecture="qwen2", created=CREATED
        )
        assert config.context_length is None

    @pytest.mark.parametrize(
        ("kind", "path", "role"),
        [
            ("weight.v1.raw", None, Role.WEIGHTS),
            ("weight.v1.raw", "model.gguf", Role.WEIGHTS),
            ("weight.v1.raw", "a/model.SAFETENSORS", Role.SAFETENSORS),
            ("weight.v1.raw", "mmproj-model-f16.gguf", Role.PROJECTOR),
            ("weight.v1.raw", "model.dduf", Role.DDUF),
            ("weight.v1.gguf", None, Role.WEIGHTS),
            ("weight.v1.safetensors", None, Role.SAFETENSORS),
            ("weight.config.v1.raw", "tokenizer.json", Role.FILE),
            ("doc.v1.raw", "LICENSE", Role.LICENSE),
            ("doc.v1.raw", "docs/Licence.txt", Role.LICENSE),
            ("doc.v1.raw", "README.md", Role.FILE),
            ("doc.v1.raw", None, Role.FILE),
            ("doc.v1.tar", None, None),
            ("code.v1.raw", None, Role.FILE),
        ],
    )
    def test_media_types_of_modelpack(self, kind: str, path: str | None, role: Role | None) -> None:
        """Where the media type does not say it, the name of the file does, then the config's format."""
        found = layer(CNCF + kind, path)
        assert parse(CNCF_CONFIG, found, kind=CONFIG_CNCF).role(found) is role

    def test_the_format_decides_last(self) -> None:
        """Raw weights without a name are what the config says."""
        found = layer(f"{CNCF}weight.v1.raw")
        config: Mapping[str, object] = {"config": {"format": "SafeTensors"}}
        assert parse(config, found, kind=CONFIG_CNCF).role(found) is Role.SAFETENSORS

    @pytest.mark.parametrize("packing", ["tar", "tar+gzip", "tar+zstd"])
    def test_packed_weights_are_refused(self, packing: str) -> None:
        """The weights must lie in the store as they are mapped into memory."""
        with pytest.raises(Malformed, match="only raw layers") as caught:
            parse(CNCF_CONFIG, layer(f"{CNCF}weight.v1.{packing}"), kind=CONFIG_CNCF)
        assert caught.value.hint is not None


class TestLayerPath:
    """`org.cncf.model.filepath` comes from a stranger and may not lead anywhere else."""

    @pytest.mark.parametrize("path", ["model.gguf", "a/b/c.json", "ä b.txt", "..a/b.."])
    def test_paths_below_the_model(self, path: str) -> None:
        """A relative path is taken as it is."""
        assert layer_path(layer(f"{DOCKER}model.file", path)) == PurePosixPath(path)

    @pytest.mark.parametrize("path", [None, ""])
    def test_no_path(self, path: str | None) -> None:
        """A layer may say nothing."""
        assert layer_path(layer(f"{DOCKER}model.file", path)) is None

    @pytest.mark.parametrize(
        "path", ["/etc/passwd", "..", "a/../../b", ".", "a\\b", "C:b", "a\0b", "a\nb", "a\ud800", "x" * 1025]
    )
    def test_paths_that_could_lead_elsewhere(self, path: str) -> None:
        """Absolute paths, steps upwards, foreign separators and control characters are refused."""
        with pytest.raises(Malformed, match="not allowed") as caught:
            layer_path(layer(f"{DOCKER}model.file", path))
        assert caught.value.message.isprintable()


class TestDescribe:
    """The config that we write is the one that Docker Model Runner reads."""

    def shape(self, metadata: Metadata = TINY_METADATA) -> Shape:
        """The tiny model."""
        return Shape.of(read_header(BytesIO(gguf_header(metadata, TINY_TENSORS))))

    def test_the_shape_of_the_document(self) -> None:
        """The fields are Docker's, in its order; the diff ids are the layers' digests."""
        weights, licence = Digest.of(b"weights"), Digest.of(b"licence")
        document = json.loads(describe(self.shape(), weights, CREATED, (licence,)))
        assert list(document) == ["config", "descriptor", "rootfs"]
        assert list(document["config"]) == [
            "format",
            "quantization",
            "parameters",
            "architecture",
            "size",
            "gguf",
            "context_size",
        ]
        summary = document["config"].pop("gguf")
        assert document["config"] == {
            "format": "gguf",
            "quantization": "F16",
            "parameters": "32",
            "architecture": "qwen2",
            "size": "80B",
            "context_size": 128,
        }
        assert all(isinstance(value, str) for value in summary.values())
        assert document["descriptor"] == {"created": "2025-03-24T11:49:41Z"}
        assert document["rootfs"] == {"type": "rootfs", "diff_ids": [str(weights), str(licence)]}

    def test_what_is_written_is_read(self) -> None:
        """Our own config says the same when it is read."""
        raw = describe(self.shape(), Digest.of(b"weights"), CREATED)
        config = parse(raw).config
        assert (config.format, config.quantization, config.parameters) == ("gguf", "F16", "32")
        assert (config.architecture, config.context_length, config.created) == ("qwen2", 128, CREATED)

    def test_the_same_model_has_the_same_config(self) -> None:
        """Bytes depend on the arguments alone, whatever the zone of the moment."""
        elsewhere = CREATED.astimezone(timezone(timedelta(hours=5)))
        raw = [describe(self.shape(), Digest.of(b"weights"), moment) for moment in (CREATED, elsewhere)]
        assert raw[0] == raw[1]

    def test_a_model_without_a_possible_context(self) -> None:
        """`context_size` is left out when the file has none, or one that no int32 holds."""
        metadata = {**TINY_METADATA, "qwen2.context_length": Typed(10, 2**40)}
        document = json.loads(describe(self.shape(metadata), Digest.of(b"weights"), CREATED))
        assert "context_size" not in document["config"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["config", "descriptor", "gguf", "created", "format", "context_size"]), x
            )
        ),
    )
)
def test_any_json_is_read_or_refused(document: object) -> None:
    """No config, however odd, does anything but be read or be malformed."""
    try:
        config = parse(document).config
    except Malformed:
        return
    assert config.context_length is None or config.context_length > 0
