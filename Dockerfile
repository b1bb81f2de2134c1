FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY gpt_oss_proxy gpt_oss_proxy
COPY wsgi.py gunicorn.conf.py ./
USER nobody
EXPOSE 3000
# exec form: gunicorn gets SIGTERM itself, and lets running streams finish
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
