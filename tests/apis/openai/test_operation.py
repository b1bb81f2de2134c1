"""Schemas of answers with choices; what they make of real answers is tested with each client API."""

from gpt_oss_proxy.apis.openai.operation import INDEX, NULL, STRING, choices, object_of, operation, stamped


def test_an_object_has_all_its_properties_but_the_optional_ones() -> None:
    assert object_of({"a": STRING, "b": NULL}, "b") == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "null"}},
        "required": ["a"],
    }


def test_every_part_of_an_answer_is_stamped() -> None:
    assert list(stamped("kind", "id-")) == ["id", "object", "created", "model"]
    assert stamped("kind", "id-")["object"] == {"const": "kind"}


def test_only_the_choices_of_chunks_can_be_empty() -> None:
    whole, chunk = (choices({"text": STRING}, [*reasons], maxItems=1) for reasons in (["stop"], ["stop", None]))
    assert whole["items"]["properties"]["index"] == INDEX
    assert whole["items"]["required"] == ["index", "text", "logprobs", "finish_reason"]
    assert "description" not in whole
    assert chunk["description"].startswith("Empty")


def test_an_operation_takes_and_answers_its_schemas() -> None:
    found = operation("say", "Say.", "About.", request="Say", whole="Said", chunk="Saying", example={"a": 1})
    body = found["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Say"}
    assert body["examples"]["streamed"]["value"] == {"model": "gpt-4o", "stream": True, "a": 1}
    content = found["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Said"}
    assert "Saying" in str(content["text/event-stream"])
    assert list(found["responses"]) == ["200", "400", "401", "404", "413", "429", "502", "503", "504"]
