// A page as users of Vercel's AI SDK write it: one React component with `useChat`, which resumes when it is opened.
import { createElement as h, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { DefaultChatTransport } from "ai";
import { useChat } from "@ai-sdk/react";

const { token, id } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const transport = new DefaultChatTransport({ api: "/api/chat", headers: { Authorization: `Bearer ${token}` } });
const kept = JSON.parse(localStorage.getItem(id) ?? "[]");

function Message({ message }) {
  const text = message.parts.filter((part) => part.type === "text").map((part) => part.text);
  return h("article", { className: message.role }, h("p", null, text.join("")));
}

function Chat() {
  const { messages, sendMessage, status, error, stop } = useChat({ id, transport, messages: kept, resume: true });
  const [input, setInput] = useState("");
  useEffect(() => {
    const whole = messages.filter((message) => message.role === "user" || status === "ready");
    localStorage.setItem(id, JSON.stringify(whole)); // As a server would that keeps an answer once it is there.
  }, [messages, status]);
  const submit = (event) => {
    event.preventDefault();
    sendMessage({ text: input });
    setInput("");
  };
  return h(
    "main",
    { "data-status": status, "data-error": error?.message ?? "" },
    messages.map((message) => h(Message, { key: message.id, message })),
    h(
      "form",
      { onSubmit: submit },
      h("input", { value: input, onChange: (event) => setInput(event.target.value) }),
      h("button", { type: "submit" }, "Send"),
      h("button", { type: "button", onClick: stop }, "Stop"),
    ),
  );
}

createRoot(document.getElementById("root")).render(h(Chat));
