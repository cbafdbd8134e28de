"""The codes and words by which servers tell one kind of trouble from another, as tables: they are data, not logic.

Patterns are looked for in any case, anywhere in a server's words, and compiled only when a server first refuses
something. Numbers among the codes are those of MiniMax, SiliconFlow and Zhipu.
"""


def _any(*patterns: str) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns)


# The account's settings or place

POLICY = _any(
    r"\bdata policy\b",
    r"\bprivacy settings?\b",
    r"\bno allowed providers\b",
    r"\b(?:country|region|territory|location)\b.{0,40}\bnot supported\b",
    r"\bnot (?:available|supported) in your (?:country|region)\b",
)

# Money and quotas: waiting a minute does not help

QUOTA_CODES = frozenset({
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error", "insufficient_balance",
    "insufficient_balance_error", "insufficientbalance", "exceeded_current_quota_error", "arrearage",
    "payment_required", "insufficient_credits", "insufficient_funds", "budget_exceeded", "budget_exceeded_error",
    "accountoverdueerror", "account_deactivated", "access_terminated", "quota_exceeded_error", "setlimitexceeded",
    "unsupported_country_region_territory", "request_quota_exceeded",
    "1008", "1113", "1304", "1308", "1309", "30001", "30011",
})  # fmt: skip
_MONEY = r"(?:balance|credits?|funds?|quota|neurons?)"
_SHORT = r"(?:insufficient|not enough|too low|not sufficient|exhausted|used up|depleted|negative|run out|ran out|gone)"
QUOTA = _any(
    rf"\b{_SHORT}\b(?:\s+\w+){{0,4}}\s+{_MONEY}\b",
    rf"\b{_MONEY}\b(?:\s+\w+){{0,5}}\s+{_SHORT}\b",
    r"\bout of credits?\b",
    r"\b(?:no|any|all|more|add|buy|purchase|included) (?:\w+ )?credits\b",
    r"\btop[ -]?up\b|\brecharge\b|\bcard\b.{0,20}\bdeclined\b",
    r"\bbilling (?:hard )?limit\b|\bcredit limit\b|\bspend(?:ing)? (?:limit|cap)\b|\bbudget has been exceeded\b",
    r"\bexceeded (?:your|the|its) (?:\w+ ){0,3}(?:budget|credits|spend)\b",
    r"\b(?:reached|exceeded|hit) your (?:\w+ ){0,3}usage limits?\b|\busage limit (?:reached|exceeded)\b",
    r"\bset up billing\b|\benable billing\b|\bpayment (?:is )?required\b",
    r"\boverdue\b|\barrears\b|\barrearage\b|欠费|余额不足|餘額不足",
    r"\baccount\b.{0,60}\b(?:suspended|deactivated|disabled|frozen|terminated|not active|inactive)\b",
    r"\bkey limit exceeded\b",
    r"\b(?:trial|subscription|plan)\b(?:\s+\w+){0,4}\s+(?:expired|ended|required)\b",
    r"\brequires? (?:an? )?(?:\w+ )?(?:subscription|upgrade|plan)\b",
    r"\bmonthly limit\b",
    r"\bfree (?:tier|quota|allocation|usage)\b.{0,40}\b(?:exhausted|used up|exceeded)\b",
    POLICY,
)
PLAN = _any(r"\bexceeded your current quota\b", r"\bcheck your plan\b", r"\bbilling details\b", r"\bpayment method\b")
"""Money, unless it is said beside a limit a minute."""
DAY = _any(
    r"\bper[- ]?(?:day|month|week|24 ?h)\b|per ?day|byday\b|/ ?(?:day|month)\b|per 86400 ?s",
    r"\bdaily\b(?:[\s-]+\w+){0,5}[\s-]+(?:limit|quota|cap|allocation|allowance)",
    r"\b(?:limit|quota|cap)\w*\b(?:\s+\w+){0,6}\s+(?:today|for the day|daily)\b",
    r"\bday'?s? (?:request |token )?(?:limit|quota)\b|\b(?:rpd|tpd)\b",
)
DAY_CODE = r"per_?day|perday|by_?day|daily|(?:^|_)(?:rpd|tpd)(?:_|$)"
MINUTE = _any(
    r"\bper[- ]?(?:min(?:ute)?|sec(?:ond)?|hour)\b|\bpermin|\bbyminute\b|/ ?(?:min(?:ute)?|s(?:ec)?)\b",
    r"\b(?:rpm|tpm|qps)\b|\bcall rate limit\b|\btoken rate limit\b",
)

# Too many requests just now

RATE_CODES = frozenset({
    "rate_limit_exceeded", "rate_limit_error", "rate_limit_reached_error", "ratelimiterror", "too_many_requests",
    "too_many_requests_error", "resource_exhausted", "engine_overloaded_error", "overloaded", "overloaded_error",
    "server_overloaded", "throttlingexception", "throttling", "token_quota_exceeded",
    "1002", "1039", "1300", "1302", "1303", "1305", "3505",
})  # fmt: skip
RATE = r"\brate[- ]?limit|\btoo many requests\b|\boverloaded\b|\bover capacity\b|\bthrottl|\bslow down\b"
LOADING = _any(
    r"\bloading\b|\bwarm(?:ing)? ?up\b|\bstarting up\b|\bspinning up\b|\bcold start|\bnot ready\b",
    r"\bstill (?:starting|initiali[sz]ing)\b",
)

# The conversation is too long

CONTEXT_CODES = frozenset({
    "context_length_exceeded", "exceed_context_size_error", "context_window_exceeded", "contextwindowexceedederror",
    "string_above_max_length", "request_too_large", "1261",
})  # fmt: skip
CONTEXT = _any(
    r"context[ _-]?(?:length|window|size|limit)",
    r"\bmaximum (?:\w+ ){0,3}(?:context|length|tokens?)\b.{0,80}\b(?:exceed|however|requested|resulted|prompt|input)",
    r"\bmaximum (?:context|sequence|model|prompt|input) ?length\b",
    r"\bmax(?:imum)?[ _](?:model|seq|sequence|prompt)[ _]?len",
    r"\b(?:prompt|input|message|conversation|request|sequence|text)s?\b(?:\s+\w+){0,4}?(?:\s+(?:is|are|was|were))? "
    r"too (?:long|large|big)\b",
    r"\binput (?:tokens?|length)\b.{0,40}\bexceeds?\b",
    r"\bexceed\w* (?:\w+ ){0,6}(?:context|number of tokens|input length|token limit)",
    r"\breduce (?:the|your) (?:length|prompt|input|message|number of)",
    r"`?inputs`? (?:tokens )?(?:\+|must have (?:less|fewer) than)",
    r"\btoo many (?:input |prompt )?tokens\b|\btoken (?:count|limit)\b.{0,40}\bexceed",
    r"\bmax_tokens must be at least 1, got -|\brange of input length\b",
)
TOO_LARGE = _any(
    r"context[ _](?:length|window|size)", r"\brequest too large\b", r"\breduce the length\b", r"\bprompt is too long\b"
)
"""What says so even beside a rate limit."""

# A filter

FILTER_CODES = frozenset({
    "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed",
    "datainspectionfailed", "moderation_blocked", "moderation", "content_moderation", "sensitivecontentdetected",
    "inputtextsensitivecontentdetected", "outputtextsensitivecontentdetected", "contentpolicyviolationerror",
    "prohibited_content", "safety", "censorship_blocked", "1026", "1027", "1301",
})  # fmt: skip
FILTER = _any(
    r"\bflagged\b",
    r"\bcontent (?:management |usage |safety )?polic(?:y|ies)\b|\bcontent[ _-]?(?:filter|moderation)|\bcontentpolicy",
    r"\bmoderation\b(?! (?:endpoint|model|api)\b)",
    r"\b(?:blocked|rejected|refused|filtered|stopped|denied)\b.{0,40}\b(?:safety|polic|filter|moderation|guardrail|content)",
    r"\b(?:safety|usage polic|guardrail)\w*\b.{0,60}\b(?:block|violat|reject|refus|flag|trigger|interven)",
    r"\bviolat\w+ (?:\w+ ){0,4}(?:polic|terms|guideline)",
    r"\b(?:sensitive|inappropriate|unsafe|harmful|prohibited) (?:\w+ ){0,2}(?:content|information|words?|input|text)\b",
    r"\bcontent exists risk\b|\bhigh risk\b|\bcontent\b.{0,60}\bblocked\b",
    r"敏感|违规|不安全",
)

# The shape of a conversation

NO_SYSTEM = _any(
    r"\bsystem (?:role|messages?|prompts?|instructions?)\b.{0,40}(?:\bnot\b|n't\b|\bunsupported\b|\bnever\b)",
    r"(?:\bnot|n't) (?:support|allow|accept)\w*(?: \w+){0,3} [`'\"]?system\b",
    r"\bdeveloper instructions? (?:is|are) not enabled\b",
    r"\b(?:unsupported|unknown|invalid|unexpected) (?:\w+ )?role:? ?[`'\"]?system\b",
    r"\brole [`'\"]?system[`'\"]? (?:is )?(?:not|un)|[`'\"]system[`'\"] (?:role )?is not\b",
    r"\bonly (?:\w+ ){0,2}user(?:,| and| or)? ?(?:\w+ )?assistant(?: and \w+)? roles are (?:supported|allowed)\b",
    r"\bshould be [`'\"]?user[`'\"]? or [`'\"]?assistant\b",
)
ALTERNATE = _any(
    r"\balternat(?:e|es|ing)\b",
    r"\bconsecutive\b.{0,30}\b(?:role|user|assistant|message)",
    r"\bmultiple .{0,12}(?:user|assistant).{0,12} in a row\b",
)

# A field of the request; every pattern catches its name

FIELD_CODES = frozenset({
    "unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden", "value_error.extra",
    "unsupportedparamserror", "invalid_parameter", "unexpected_keyword_argument",
})  # fmt: skip
_NAME = r"[{\[(]*\s*[`'\"\\]*([A-Za-z_][\w.]*)"
_FIELD = r"(?:parameter|argument|field|property|option)"
UNKNOWN_FIELD = (
    r"(?:un(?:supported|recogni[sz]ed|known|expected|permitted)|extra|invalid)[\w ]{0,30}?"
    r"(?:parameter|argument|field|input|key|value|name|property|option)"
    rf"(?:s|\(s\)|ies)?(?: supplied| in the request| provided| name| passed)?:? *{_NAME}"
)
NOT_TAKEN = (
    UNKNOWN_FIELD,
    rf"{_FIELD}s?:? *{_NAME}[`'\"\\]*\s+(?:is|are|was|has|have)?\s*(?:not |un|no longer |deprecated|currently)",
    rf"{_NAME}[`'\"\\]*:? (?:\w+ )?(?:{_FIELD} )?(?:is|are) (?:un(?:supported|recognized|known|expected)"
    r"|not (?:\w+ )?(?:supported|allowed|permitted|accepted|recognized|enabled)|deprecated|no longer supported)",
    rf"(?:not|n't) (?:support|accept|allow|take|recogni[sz]e)\w*(?: the| this)?(?: {_FIELD}s?| setting)?:? {_NAME}",
    rf"{_NAME}[`'\"\\]*: (?:extra (?:inputs?|fields?)|unrecognized|unknown|unexpected|unsupported)",
    rf"additional propert(?:y|ies)[\w ]{{0,30}}{_NAME}",
    rf"no endpoints? found that[\w ]{{0,30}}parameters?:? {_NAME}",
)
FIELDS = frozenset({
    "temperature", "top_p", "top_k", "seed", "max_tokens", "max_completion_tokens", "min_p", "stop", "logprobs",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning_effort", "logit_bias", "n",
})  # fmt: skip
"""Fields that a request may have, whatever it is known to have."""
NO_FIELDS = frozenset({"messages", "model", "stream", "role", "roles", "content", "system", "body", "prompt", "input"})
"""Names that no setting has."""
UNKNOWN = _any(
    r"(?:\bun|\bnot |n't )(?:support|allow|accept|permit|recogni|known|expected)",
    r"\bdeprecated\b|\bextra\b|\bcannot find\b",
)
"""The field is not known by this name."""
AS_SET = _any(
    UNKNOWN,
    r"\bmust\b|\bshould be\b|\bcombination\b|\bnot valid\b|\bonly\b|\binvalid\b|\bout of range\b|\brange of\b",
    r"\bnot in\b",
    r"\btoo (?:large|high|small|low|big)\b|\bless than\b|\bgreater than\b|\bat (?:least|most)\b",
    r"\b(?:cannot|can't|not) both\b|\bunsupported\b",
)
"""The field is not taken with this value."""

# Keys, models, addresses

KEY_CODES = frozenset({
    "invalid_api_key", "authentication_error", "invalid_authentication_error", "incorrect_api_key_error",
    "invalidapikey", "unauthenticated", "unauthorized", "missing_api_key", "api_key_invalid", "1004", "2049",
})  # fmt: skip
KEY = _any(
    r"\b(?:api|access|subscription|secret)[ _-]?(?:key|token)s?\b",
    r"\bunauthori[sz]ed\b|\bauthenticat|\bcredentials?\b|\bauthorization header\b|\bbearer\b",
)
MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound", "modelnotopen", "notfounderror", "1211", "20012"})
MODEL = _any(
    r"\b(?:model|deployment)\b.{0,200}\b(?:does ?n[o']t exist|not exist|not found|not available|not served)",
    r"\b(?:model|deployment)\b.{0,200}\b(?:not deployed|unknown|is not supported|no longer available|is not valid)",
    r"\b(?:no|unknown|invalid|unsupported|missing) (?:such )?model\b|\bnot a valid model\b",
    r"\bno models? (?:is |are )?loaded\b|\bunable to access model\b|\bno endpoints found for\b|模型不存在",
)
ONLY_HTTPS = r"\bhttp request (?:was sent )?to (?:an )?https (?:port|server)\b"
