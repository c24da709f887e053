from django.contrib.auth.views import LoginView
from django.urls import path

from users import views

app_name = "users"
urlpatterns = [
    path("users/", views.UserList.as_view(), name="list"),
    path("users/new/", views.UserCreate.as_view(), name="create"),
    path("users/<int:pk>/", views.UserDetail.as_view(), name="detail"),
    path("users/<int:pk>/edit/", views.UserEdit.as_view(), name="edit"),
    path("users/<int:pk>/delete/", views.UserDelete.as_view(), name="delete"),
    path(
        "login/",
        LoginView.as_view(
            template_name="users/login.html",
            next_page="users:list",
            redirect_authenticated_user=True,
        ),
        name="login",
    ),
    path("logout/", views.Logout.as_view(), name="logout"),
]
