"""Chat templates of Qwen3-VL: paraphrases with the same output as the Instruct and the Thinking edition's own. Last, Qwen2.5's (the text
model's), for what Qwen2.5-VL's template lacks: tools.

Neither adds a default system prompt. Instruct knows the roles system (first message only), user, assistant and tool. Thinking also
keeps later system messages, opens every reply with <think>, and drops the reasoning of turns before the last real question
(a user message that is not a tool response); of later turns it is kept.
"""

PARTS = (
    "{%- set images = namespace(n=0) %}{%- set videos = namespace(n=0) %}"
    "{%- macro render(content, count) %}"
    "{%- if content is string %}{{- content }}"
    "{%- else %}{%- for part in content %}"
    "{%- if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "{%- if count %}{%- set images.n = images.n + 1 %}{%- endif %}"
    "{%- if add_vision_id %}{{- 'Picture ' ~ images.n ~ ': ' }}{%- endif %}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part['type'] == 'video' or 'video' in part %}"
    "{%- if count %}{%- set videos.n = videos.n + 1 %}{%- endif %}"
    "{%- if add_vision_id %}{{- 'Video ' ~ videos.n ~ ': ' }}{%- endif %}"
    "{{- '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in part %}{{- part['text'] }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{%- endmacro %}"
    "{%- macro words(content) %}"  # the text parts alone
    "{%- if content is string %}{{- content }}"
    "{%- else %}{%- for part in content %}{%- if 'text' in part %}{{- part['text'] }}{%- endif %}{%- endfor %}{%- endif %}"
    "{%- endmacro %}"
)

TOOLS = (
    "{{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n"
    "You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' }}"
    "{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\\n<tool_call>\\n"
    "{\"name\": <function-name>, \"arguments\": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}"
)


def system(render):
    return (
        "{%- if tools %}{{- '<|im_start|>system\\n' }}"
        "{%- if messages[0]['role'] == 'system' %}{{- " + render + " }}{{- '\\n\\n' }}{%- endif %}" + TOOLS +
        "{%- elif messages[0]['role'] == 'system' %}"
        "{{- '<|im_start|>system\\n' }}{{- " + render + " }}{{- '<|im_end|>\\n' }}{%- endif %}"
    )


def calls(content):
    """The tool calls of a reply; a newline before the first only where there is text (`content`) before it."""
    return (
        "{%- for call in message['tool_calls'] or [] %}"
        "{%- if not loop.first or " + content + " %}{{- '\\n' }}{%- endif %}"
        "{%- if call['function'] %}{%- set call = call['function'] %}{%- endif %}"
        "{{- '<tool_call>\\n{\"name\": \"' }}{{- call['name'] }}{{- '\", \"arguments\": ' }}"
        "{%- if call['arguments'] is string %}{{- call['arguments'] }}{%- else %}{{- call['arguments'] | tojson }}{%- endif %}"
        "{{- '}\\n</tool_call>' }}"
        "{%- endfor %}{{- '<|im_end|>\\n' }}"
    )


def tool_response(content):
    """Neighbouring tool messages share one user turn."""
    return (
        "{%- if loop.first or messages[loop.index0 - 1]['role'] != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}"
        "{{- '\\n<tool_response>\\n' }}{{- " + content + " }}{{- '\\n</tool_response>' }}"
        "{%- if loop.last or messages[loop.index0 + 1]['role'] != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}"
    )


INSTRUCT = (
    PARTS + system("words(messages[0]['content'])") +
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}"
    "{{- '<|im_start|>user\\n' }}{{- render(message['content'], true) }}{{- '<|im_end|>\\n' }}"
    "{%- elif message['role'] == 'assistant' %}"
    "{{- '<|im_start|>assistant\\n' }}{{- words(message['content']) }}" + calls("message['content']") +
    "{%- elif message['role'] == 'tool' %}" + tool_response("render(message['content'], true)") +
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

THINKING = (
    PARTS + system("render(messages[0]['content'], false)") +
    "{%- set last = namespace(open=true, query=messages|length - 1) %}"
    "{%- for message in messages[::-1] %}"
    "{%- if last.open and message['role'] == 'user' %}"
    "{%- set said = render(message['content'], false) %}"
    "{%- if not (said.startswith('<tool_response>') and said.endswith('</tool_response>')) %}"
    "{%- set last.open = false %}{%- set last.query = messages|length - 1 - loop.index0 %}"
    "{%- endif %}{%- endif %}"
    "{%- endfor %}"
    "{%- for message in messages %}"
    "{%- set said = render(message['content'], true) %}"
    "{%- if message['role'] == 'user' or (message['role'] == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + said + '<|im_end|>\\n' }}"
    "{%- elif message['role'] == 'assistant' %}"
    "{%- set reasoning = '' %}"
    "{%- if message['reasoning_content'] is string %}{%- set reasoning = message['reasoning_content'] %}"
    "{%- elif '</think>' in said %}"
    "{%- set reasoning = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{%- set said = said.split('</think>')[-1].lstrip('\\n') %}"
    "{%- endif %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if loop.index0 > last.query and (loop.last or reasoning) %}"
    "{{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + said.lstrip('\\n') }}"
    "{%- else %}{{- said }}{%- endif %}" + calls("said") +
    "{%- elif message['role'] == 'tool' %}" + tool_response("said") +
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
)

# What Qwen2.5's template writes for tools, calls and what they gave, with Qwen2.5-VL's default system prompt in place of its own and
# pictures as Qwen2.5-VL's template writes them.
TOOLS2 = (
    PARTS +
    "{%- if messages[0]['role'] == 'system' %}{%- set system = render(messages[0]['content'], true) %}"
    "{%- else %}{%- set system = 'You are a helpful assistant.' %}{%- endif %}"
    "{%- if tools %}{{- '<|im_start|>system\\n' + system + '\\n\\n' }}" + TOOLS +
    "{%- else %}{{- '<|im_start|>system\\n' + system + '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' or (message['role'] == 'system' and not loop.first)"
    " or (message['role'] == 'assistant' and not message['tool_calls']) %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' }}{{- render(message['content'], true) }}{{- '<|im_end|>\\n' }}"
    "{%- elif message['role'] == 'assistant' %}"
    "{%- set said = render(message['content'], true) %}"
    "{{- '<|im_start|>assistant\\n' + said }}" + calls("said") +
    "{%- elif message['role'] == 'tool' %}" + tool_response("render(message['content'], true)") +
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
